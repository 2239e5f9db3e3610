import random
import re
import string
import time
from collections import Counter
from hashlib import sha256
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harborguard.auth.credentials import Credential, NewSecret, make_secret, parse_credential
from harborguard.auth.sessions import SessionIdentity, SessionReader
from harborguard.errors import Unauthenticated
from harborguard.model import PrincipalKind
from tests.support.cookies import (
    MONTH,
    OTHER_SECRET,
    SECRET,
    V4_NAME,
    V5_NAME,
    chunk,
    make_claims,
    mint_v4,
    mint_v5,
)

KEY = "hg_ak_" + "0123456789abcdef" * 3
TOKEN = "hg_pat_" + "fedcba9876543210" * 3
EXPIRED_KEY = "hg_ak_" + "e" * 48
reader = SessionReader([SECRET])


def parse(
    headers: dict[str, str] | None = None,
    cookies: list[tuple[str, str]] | None = None,
    sessions: SessionReader | None = reader,
) -> Credential:
    return parse_credential(headers or {}, cookies or [], sessions)


def is_refused(
    headers: dict[str, str] | None = None, cookies: list[tuple[str, str]] | None = None
) -> bool:
    with pytest.raises(Unauthenticated) as refusal:
        parse(headers, cookies)
    assert refusal.value.message == "A valid API key, personal access token or session is required."
    assert refusal.value.issues == ()
    return True


def session(email: str = "ada@acme.example", /, **changes: float) -> tuple[str, str]:
    return V4_NAME, mint_v4(make_claims(time.time(), email=email, **changes))


def of_secret(secret: str) -> Credential:
    is_key = secret.startswith("hg_ak_")
    kind = PrincipalKind.API_KEY if is_key else PrincipalKind.ACCESS_TOKEN
    return Credential(kind=kind, digest=sha256(secret.encode()).digest(), identity=None)


def of_session(email: str = "ada@acme.example") -> Credential:
    return Credential(PrincipalKind.SESSION, digest=None, identity=SessionIdentity(email=email))


def test_it_works() -> None:
    key = Credential(
        kind=PrincipalKind.API_KEY,
        digest=bytes.fromhex("954e129e9882e4899e8c660747114dbf63b830ded3f75f6c3174ff4d2c383e5e"),
        identity=None,
    )
    assert parse({"X-API-Key": KEY}) == key
    assert parse({"Authorization": f"Bearer {KEY}"}) == key
    assert parse({"Authorization": f"Bearer {TOKEN}"}) == of_secret(TOKEN)
    assert parse({"X-API-Key": TOKEN}) == of_secret(TOKEN)
    assert parse({}, [session()]) == of_session()


# -- which of several -----------------------------------------------------------------------------

STATES = ["absent", "good A", "good B", "bad", "expired"]
# Whether a key has expired is the database's to say: here it is as good as any other.
API_KEYS = dict(zip(STATES, [None, KEY, "hg_ak_" + "b" * 48, "hg_sk_x", EXPIRED_KEY], strict=True))
BEARERS = dict(zip(STATES, [None, TOKEN, "hg_pat_b", "eyJ.e30.", "hg_pat_expired"], strict=True))
COOKIES = {
    "absent": None,
    "good A": session(),
    "good B": session("bob@acme.example"),
    "bad": (V4_NAME, "rubbish"),
    "expired": session(exp=time.time() - 3600),
}
OF_SESSIONS = {"good A": of_session(), "good B": of_session("bob@acme.example")}


def find_expected(api_key: str, bearer: str, cookie: str) -> Credential | None:
    for state, secrets in ((api_key, API_KEYS), (bearer, BEARERS)):
        if state == "bad":
            return None
        if secret := secrets[state]:
            return of_secret(secret)
    return OF_SESSIONS.get(cookie)


@pytest.mark.parametrize(("api_key", "bearer", "cookie"), list(product(STATES, repeat=3)))
def test_the_first_credential_present_decides(api_key: str, bearer: str, cookie: str) -> None:
    headers = {"Accept": "*/*"}
    if secret := API_KEYS[api_key]:
        headers["X-API-Key"] = secret
    if secret := BEARERS[bearer]:
        headers["Authorization"] = f"Bearer {secret}"
    cookies = [("theme", "dark"), *filter(None, [COOKIES[cookie]])]
    expected = find_expected(api_key, bearer, cookie)
    if expected is None:
        assert is_refused(headers, cookies)
    else:
        assert parse(headers, cookies) == expected


OTHER_SCHEMES = [
    *["Basic cHJveHk6cHJveHk=", "Digest username=x", "Negotiate", "Bearertoken hg_ak_x", "", " "],
    *[f"Token {KEY}", KEY, f"Basic {KEY}", f"Bearer-{KEY}", f"Bearer.{KEY}", f"Bearer{KEY}"],
    *[
        f"Basic Bearer {KEY}",
        f"X-Bearer {KEY}",
        f'"Bearer" {KEY}',
        f"\N{FULLWIDTH LATIN CAPITAL LETTER B}earer {KEY}",
    ],
]


@pytest.mark.parametrize("authorization", OTHER_SCHEMES)
def test_an_authorization_of_another_scheme_is_no_credential(authorization: str) -> None:
    headers = {"Authorization": authorization}
    assert is_refused(headers)
    assert parse(headers, [session()]) == of_session()
    assert parse(headers | {"X-API-Key": KEY}, [session()]) == of_secret(KEY)
    assert is_refused(headers, [(V4_NAME, "rubbish")])


def test_nothing_at_all_is_refused() -> None:
    assert is_refused()
    assert is_refused({"Accept": "*/*"}, [("theme", "dark"), ("session", KEY), ("X-API-Key", KEY)])


def test_without_session_reader_no_cookie_is_a_credential() -> None:
    with pytest.raises(Unauthenticated):
        parse({}, [session()], None)
    assert parse({"X-API-Key": KEY}, [session()], None) == of_secret(KEY)


def test_cookies_are_not_opened_beside_a_header() -> None:
    def explode() -> None:
        raise AssertionError

    class NoReader(SessionReader):
        def find_identity(self, cookies: object, now: float) -> None:
            explode()

    no_reader = NoReader([SECRET])
    assert parse({"X-API-Key": KEY}, [session()], no_reader) == of_secret(KEY)
    with pytest.raises(Unauthenticated):
        parse({"X-API-Key": "bad"}, [session()], no_reader)
    with pytest.raises(Unauthenticated):
        parse({"Authorization": "Bearer"}, [session()], no_reader)


# -- sessions -------------------------------------------------------------------------------------


def test_sessions_are_judged_by_the_clock() -> None:
    now = time.time()
    for name, value in [session(exp=now - 10), session(iat=now + 13), session(nbf=now + 13)]:
        assert parse({}, [(name, value)]) == of_session()
    for name, value in [session(exp=now - 17), session(iat=now + 60), session(nbf=now + 60)]:
        assert is_refused({}, [(name, value)])
    assert is_refused({}, [session(iat=now - MONTH - 60, exp=now - 60)])


def test_sessions_of_both_versions_whole_or_in_chunks() -> None:
    claims = make_claims(time.time(), groups="x" * 6500)
    name = f"__Secure-{V5_NAME}"
    assert parse({}, chunk(name, mint_v5(claims, name=name))) == of_session()
    assert parse({}, chunk(V4_NAME, mint_v4(claims))) == of_session()
    assert is_refused({}, chunk(V4_NAME, mint_v4(claims))[1:])
    assert is_refused({}, chunk(V4_NAME, mint_v4(claims, secret=OTHER_SECRET)))


def test_a_session_may_name_a_user_id() -> None:
    token = mint_v4(make_claims(time.time(), email=..., sub="user-1"))
    expected = Credential(PrincipalKind.SESSION, identity=SessionIdentity(user_id="user-1"))
    assert parse({}, [(V4_NAME, token)]) == expected


def test_a_session_token_is_taken_from_the_cookie_only() -> None:
    _, token = session()
    assert is_refused({"Authorization": f"Bearer {token}"})
    assert is_refused({"X-API-Key": token})


# -- keys and tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
@pytest.mark.parametrize("secret", [KEY, TOKEN])
def test_the_scheme_may_be_in_any_case(scheme: str, secret: str) -> None:
    assert parse({"Authorization": f"{scheme} {secret}"}) == of_secret(secret)


GOOD = [
    *["hg_ak_a", "hg_pat_a", "hg_ak_-", "hg_ak__", "hg_pat_----", "hg_ak_hg_pat_a"],
    *["hg_ak_" + "F" * 48, "hg_pat_Zz9-_", "hg_ak_" + "a" * 32, "hg_ak_" + "x" * 100],
    *["hg_ak_" + "x" * 250, "hg_pat_" + "x" * 249],
]


@pytest.mark.parametrize("secret", GOOD, ids=lambda secret: secret[:20])
def test_secrets_of_other_lengths_and_letters_are_looked_up(secret: str) -> None:
    assert parse({"X-API-Key": secret}) == of_secret(secret)
    assert parse({"Authorization": f"Bearer {secret}"}) == of_secret(secret)


BAD = {
    "empty": "",
    "blank": " ",
    "tab": "\t",
    "new line": "\n",
    "a word": "null",
    "prefix only": "hg_ak_",
    "other prefix only": "hg_pat_",
    "no prefix": KEY.removeprefix("hg_ak_"),
    "prefix cut off": "hg_ak",
    "prefix of another service": "ghp_" + "a" * 36,
    "unknown kind": "hg_sk_" + "a" * 48,
    "prefix in capitals": KEY.upper(),
    "prefix with hyphens": "hg-ak-" + "a" * 48,
    "blank before": f" {KEY}",
    "blank after": f"{KEY} ",
    "blank within": f"{KEY[:20]} {KEY[20:]}",
    "tab before": f"\t{KEY}",
    "tab after": f"{KEY}\t",
    "new line before": f"\n{KEY}",
    "new line after": f"{KEY}\n",
    "CR LF after": f"{KEY}\r\n",
    "NUL before": f"\0{KEY}",
    "NUL after": f"{KEY}\0",
    "NUL within": f"{KEY[:20]}\0{KEY[20:]}",
    "joined duplicates": f"{KEY},{KEY}",
    "joined duplicates with a blank": f"{KEY}, {KEY}",
    "joined with nothing": f"{KEY},",
    "joined after nothing": f",{KEY}",
    "both kinds joined": f"{KEY},{TOKEN}",
    "two words": f"{KEY} {TOKEN}",
    "scheme again": f"Bearer {KEY}",
    "quoted": f'"{KEY}"',
    "with parameter": f"{KEY};q=1",
    "base64 letters": "hg_ak_ab+/==",
    "dot": "hg_ak_a.b",
    "percent": "hg_ak_%61",
    "Latin-1": KEY + "é",
    "Latin-1 as a server hands on UTF-8": KEY + "é".encode().decode("latin-1"),
    "full-width letter": KEY[:-1] + "\uff46",
    "other digits": KEY[:-1] + "\u0661",
    "zero-width space": KEY + "\u200b",
    "lone surrogate": KEY + "\ud800",
    "Cyrillic a in the prefix": "hg_\u0430k_" + "a" * 48,
    "257 characters": "hg_ak_" + "a" * 251,
    "1 MB": "hg_ak_" + "a" * 2**20,
    "1 MB of blanks": KEY + " " * 2**20,
    "1 MB of commas": "," * 2**20,
    "a session token": "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA",
    "SQL": "hg_ak_' OR 1=1 --",
}


@pytest.mark.parametrize("secret", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_a_secret_is_refused_and_nothing_else_tried(secret: str) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert is_refused({"X-API-Key": secret})
    assert is_refused({"X-API-Key": secret} | bearer, [session()])
    assert is_refused({"Authorization": f"Bearer {secret}"}, [session()])


BAD_BEARERS = [
    *["Bearer", "bearer", "Bearer ", "Bearer  ", "Bearer\t", "Bearer,", "Bearer:", "Bearer\0"],
    *[f"Bearer  {KEY}", f"Bearer\t{KEY}", f"Bearer \t{KEY}", f"Bearer\n{KEY}", f"Bearer:{KEY}"],
    *[f"Bearer={KEY}", f"Bearer,{KEY}", f"Bearer {KEY}, Bearer {KEY}", f"Bearer {KEY},Basic eA=="],
    *[f"Bearer Bearer {KEY}", f"Bearer {KEY} {KEY}", f"Bearer\u00a0{KEY}", f"Bearer/{KEY}"],
]


@pytest.mark.parametrize("authorization", BAD_BEARERS)
def test_a_malformed_bearer_is_refused_and_nothing_else_tried(authorization: str) -> None:
    assert is_refused({"Authorization": authorization}, [session()])


@given(st.text(), st.sampled_from(["", "hg_ak_", "hg_pat_", KEY]))
def test_any_text_is_a_secret_or_refused(text: str, before: str) -> None:
    secret = before + text
    for headers in ({"X-API-Key": secret}, {"Authorization": f"Bearer {secret}"}):
        if re.fullmatch(r"(?a:hg_(ak|pat)_[\w-]{1,250})", secret) and len(secret) <= 256:
            assert parse(headers) == of_secret(secret)
        else:
            assert is_refused(headers)


@given(st.text())
def test_any_authorization_is_refused_or_no_credential(text: str) -> None:
    assert is_refused({"Authorization": text})


def test_no_mutation_of_a_good_secret_is_taken_for_it() -> None:
    letters = string.ascii_letters + string.digits + "-_.=+/, \t\r\n\0é"
    chance = random.Random(20_000)
    wanted = {of_secret(KEY), of_secret(TOKEN)}
    accepted = []
    for _ in range(20_000):
        good = chance.choice([KEY, TOKEN])
        at, length = chance.randrange(len(good) + 1), chance.randrange(3)
        put = "".join(chance.choices(letters, k=chance.randrange(3)))
        mutated = good[:at] + put + good[at + length :]
        carrier = chance.choice([{"X-API-Key": mutated}, {"Authorization": f"Bearer {mutated}"}])
        try:
            credential = parse(carrier)
        except Unauthenticated:
            continue
        if mutated != good and credential in wanted:
            accepted.append(mutated)
    assert accepted == []


# -- new secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [(PrincipalKind.API_KEY, "hg_ak_"), (PrincipalKind.ACCESS_TOKEN, "hg_pat_")],
)
def test_a_new_secret_is_one_that_can_be_shown(kind: PrincipalKind, prefix: str) -> None:
    made = make_secret(kind)
    assert re.fullmatch(prefix + "[0-9a-f]{48}", made.secret)
    assert made == NewSecret(made.secret, made.secret[:10], sha256(made.secret.encode()).digest())
    for headers in ({"X-API-Key": made.secret}, {"Authorization": f"Bearer {made.secret}"}):
        assert parse(headers) == Credential(kind, made.digest)


def test_a_new_secret_does_not_show_itself() -> None:
    made = make_secret(PrincipalKind.API_KEY)
    assert made.secret not in repr(made)
    assert made.secret[10:] not in repr(made)


def test_a_session_has_no_secret() -> None:
    with pytest.raises(KeyError):
        make_secret(PrincipalKind.SESSION)


def test_new_secrets_are_random() -> None:
    secrets = [make_secret(PrincipalKind.API_KEY).secret for _ in range(10_000)]
    assert len(set(secrets)) == 10_000
    for place in range(6, 54):
        counts = Counter(secret[place] for secret in secrets)
        # 625 of each are to be expected; six standard deviations are 145.
        assert len(counts) == 16, place
        assert all(480 < count < 770 for count in counts.values()), place
