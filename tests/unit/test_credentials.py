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


def is_rejected(
    headers: dict[str, str] | None = None, cookies: list[tuple[str, str]] | None = None
) -> bool:
    with pytest.raises(Unauthenticated) as caught:
        parse(headers, cookies)
    assert caught.value.message == "A valid API key, personal access token or session is required."
    assert caught.value.issues == ()
    return True


def session(email: str = "ada@acme.example", /, **changes: float) -> tuple[str, str]:
    return V4_NAME, mint_v4(make_claims(time.time(), email=email, **changes))


def secret_credential(secret: str) -> Credential:
    is_key = secret.startswith("hg_ak_")
    kind = PrincipalKind.API_KEY if is_key else PrincipalKind.ACCESS_TOKEN
    return Credential(kind=kind, digest=sha256(secret.encode()).digest(), identity=None)


def session_credential(email: str = "ada@acme.example") -> Credential:
    return Credential(PrincipalKind.SESSION, digest=None, identity=SessionIdentity(email=email))


def test_credential_of_each_kind_is_parsed() -> None:
    key = Credential(
        kind=PrincipalKind.API_KEY,
        digest=bytes.fromhex("954e129e9882e4899e8c660747114dbf63b830ded3f75f6c3174ff4d2c383e5e"),
        identity=None,
    )
    assert parse({"X-API-Key": KEY}) == key
    assert parse({"Authorization": f"Bearer {KEY}"}) == key
    assert parse({"Authorization": f"Bearer {TOKEN}"}) == secret_credential(TOKEN)
    assert parse({"X-API-Key": TOKEN}) == secret_credential(TOKEN)
    assert parse({}, [session()]) == session_credential()


# -- precedence -----------------------------------------------------------------------------------

STATES = ["absent", "valid A", "valid B", "malformed", "expired"]
# Only the database knows whether a key has expired: the parser accepts an expired one.
API_KEYS = dict(zip(STATES, [None, KEY, "hg_ak_" + "b" * 48, "hg_sk_x", EXPIRED_KEY], strict=True))
BEARERS = dict(zip(STATES, [None, TOKEN, "hg_pat_b", "eyJ.e30.", "hg_pat_expired"], strict=True))
COOKIES = {
    "absent": None,
    "valid A": session(),
    "valid B": session("bob@acme.example"),
    "malformed": (V4_NAME, "rubbish"),
    "expired": session(exp=time.time() - 3600),
}
SESSION_CREDENTIALS = {
    "valid A": session_credential(),
    "valid B": session_credential("bob@acme.example"),
}


def find_expected(api_key: str, bearer: str, cookie: str) -> Credential | None:
    for state, secrets in ((api_key, API_KEYS), (bearer, BEARERS)):
        if state == "malformed":
            return None
        if secret := secrets[state]:
            return secret_credential(secret)
    return SESSION_CREDENTIALS.get(cookie)


@pytest.mark.parametrize(("api_key", "bearer", "cookie"), list(product(STATES, repeat=3)))
def test_combined_credentials_use_the_first_present(api_key: str, bearer: str, cookie: str) -> None:
    headers = {"Accept": "*/*"}
    if secret := API_KEYS[api_key]:
        headers["X-API-Key"] = secret
    if secret := BEARERS[bearer]:
        headers["Authorization"] = f"Bearer {secret}"
    cookies = [("theme", "dark"), *filter(None, [COOKIES[cookie]])]
    expected = find_expected(api_key, bearer, cookie)
    if expected is None:
        assert is_rejected(headers, cookies)
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
def test_authorization_of_other_scheme_is_ignored(authorization: str) -> None:
    headers = {"Authorization": authorization}
    assert is_rejected(headers)
    assert parse(headers, [session()]) == session_credential()
    assert parse(headers | {"X-API-Key": KEY}, [session()]) == secret_credential(KEY)
    assert is_rejected(headers, [(V4_NAME, "rubbish")])


def test_reason_of_rejection_is_missing_or_malformed() -> None:
    cases = [({}, "missing"), ({"Authorization": "Basic eA=="}, "missing")]
    cases += [({"X-API-Key": "x"}, "malformed"), ({"Authorization": "Bearer x"}, "malformed")]
    for headers, reason in cases:
        with pytest.raises(Unauthenticated) as caught:
            parse(headers)
        assert caught.value.reason == reason


def test_request_without_credential_is_rejected() -> None:
    assert is_rejected()
    assert is_rejected({"Accept": "*/*"}, [("theme", "dark"), ("session", KEY), ("X-API-Key", KEY)])


def test_session_cookie_without_session_reader_is_ignored() -> None:
    with pytest.raises(Unauthenticated):
        parse({}, [session()], None)
    assert parse({"X-API-Key": KEY}, [session()], None) == secret_credential(KEY)


def test_session_cookie_with_a_header_credential_is_not_decrypted() -> None:
    def fail() -> None:
        raise AssertionError

    class UnusedReader(SessionReader):
        def find_identity(self, cookies: object, now: float) -> None:
            fail()

    unused_reader = UnusedReader([SECRET])
    assert parse({"X-API-Key": KEY}, [session()], unused_reader) == secret_credential(KEY)
    with pytest.raises(Unauthenticated):
        parse({"X-API-Key": "bad"}, [session()], unused_reader)
    with pytest.raises(Unauthenticated):
        parse({"Authorization": "Bearer"}, [session()], unused_reader)


# -- sessions -------------------------------------------------------------------------------------


def test_session_outside_its_validity_is_rejected() -> None:
    now = time.time()
    for name, value in [session(exp=now - 10), session(iat=now + 13), session(nbf=now + 13)]:
        assert parse({}, [(name, value)]) == session_credential()
    for name, value in [session(exp=now - 17), session(iat=now + 60), session(nbf=now + 60)]:
        assert is_rejected({}, [(name, value)])
    assert is_rejected({}, [session(iat=now - MONTH - 60, exp=now - 60)])


def test_session_in_chunks_is_joined_in_both_versions() -> None:
    claims = make_claims(time.time(), groups="x" * 6500)
    name = f"__Secure-{V5_NAME}"
    assert parse({}, chunk(name, mint_v5(claims, name=name))) == session_credential()
    assert parse({}, chunk(V4_NAME, mint_v4(claims))) == session_credential()
    assert is_rejected({}, chunk(V4_NAME, mint_v4(claims))[1:])
    assert is_rejected({}, chunk(V4_NAME, mint_v4(claims, secret=OTHER_SECRET)))


def test_session_without_email_identifies_user_by_id() -> None:
    token = mint_v4(make_claims(time.time(), email=..., sub="user-1"))
    expected = Credential(PrincipalKind.SESSION, identity=SessionIdentity(user_id="user-1"))
    assert parse({}, [(V4_NAME, token)]) == expected


def test_session_token_in_header_is_rejected() -> None:
    _, token = session()
    assert is_rejected({"Authorization": f"Bearer {token}"})
    assert is_rejected({"X-API-Key": token})


# -- keys and tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
@pytest.mark.parametrize("secret", [KEY, TOKEN])
def test_bearer_scheme_in_any_case_is_accepted(scheme: str, secret: str) -> None:
    assert parse({"Authorization": f"{scheme} {secret}"}) == secret_credential(secret)


VALID = [
    *["hg_ak_a", "hg_pat_a", "hg_ak_-", "hg_ak__", "hg_pat_----", "hg_ak_hg_pat_a"],
    *["hg_ak_" + "F" * 48, "hg_pat_Zz9-_", "hg_ak_" + "a" * 32, "hg_ak_" + "x" * 100],
    *["hg_ak_" + "x" * 250, "hg_pat_" + "x" * 249],
]


@pytest.mark.parametrize("secret", VALID, ids=lambda secret: secret[:20])
def test_secret_of_other_length_or_alphabet_is_accepted(secret: str) -> None:
    assert parse({"X-API-Key": secret}) == secret_credential(secret)
    assert parse({"Authorization": f"Bearer {secret}"}) == secret_credential(secret)


MALFORMED = {
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
    "repeated scheme": f"Bearer {KEY}",
    "quoted": f'"{KEY}"',
    "with parameter": f"{KEY};q=1",
    "base64 letters": "hg_ak_ab+/==",
    "dot": "hg_ak_a.b",
    "percent": "hg_ak_%61",
    "Latin-1": KEY + "é",
    "UTF-8 decoded as Latin-1": KEY + "é".encode().decode("latin-1"),
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


@pytest.mark.parametrize("secret", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_secret_is_rejected_and_no_other_credential_tried(secret: str) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert is_rejected({"X-API-Key": secret})
    assert is_rejected({"X-API-Key": secret} | bearer, [session()])
    assert is_rejected({"Authorization": f"Bearer {secret}"}, [session()])


MALFORMED_BEARERS = [
    *["Bearer", "bearer", "Bearer ", "Bearer  ", "Bearer\t", "Bearer,", "Bearer:", "Bearer\0"],
    *[f"Bearer  {KEY}", f"Bearer\t{KEY}", f"Bearer \t{KEY}", f"Bearer\n{KEY}", f"Bearer:{KEY}"],
    *[f"Bearer={KEY}", f"Bearer,{KEY}", f"Bearer {KEY}, Bearer {KEY}", f"Bearer {KEY},Basic eA=="],
    *[f"Bearer Bearer {KEY}", f"Bearer {KEY} {KEY}", f"Bearer\u00a0{KEY}", f"Bearer/{KEY}"],
]


@pytest.mark.parametrize("authorization", MALFORMED_BEARERS)
def test_malformed_bearer_is_rejected_and_no_other_credential_tried(authorization: str) -> None:
    assert is_rejected({"Authorization": authorization}, [session()])


@given(st.text(), st.sampled_from(["", "hg_ak_", "hg_pat_", KEY]))
def test_any_text_is_a_well_formed_secret_or_rejected(text: str, prefix: str) -> None:
    secret = prefix + text
    for headers in ({"X-API-Key": secret}, {"Authorization": f"Bearer {secret}"}):
        if re.fullmatch(r"(?a:hg_(ak|pat)_[\w-]{1,250})", secret) and len(secret) <= 256:
            assert parse(headers) == secret_credential(secret)
        else:
            assert is_rejected(headers)


@given(st.text())
def test_any_authorization_without_secret_is_rejected(text: str) -> None:
    assert is_rejected({"Authorization": text})


def test_mutated_secret_never_equals_the_original() -> None:
    letters = string.ascii_letters + string.digits + "-_.=+/, \t\r\n\0é"
    rng = random.Random(20_000)
    originals = {secret_credential(KEY), secret_credential(TOKEN)}
    accepted = []
    for _ in range(20_000):
        original = rng.choice([KEY, TOKEN])
        start, removed = rng.randrange(len(original) + 1), rng.randrange(3)
        inserted = "".join(rng.choices(letters, k=rng.randrange(3)))
        mutated = original[:start] + inserted + original[start + removed :]
        headers = rng.choice([{"X-API-Key": mutated}, {"Authorization": f"Bearer {mutated}"}])
        try:
            credential = parse(headers)
        except Unauthenticated:
            continue
        if mutated != original and credential in originals:
            accepted.append(mutated)
    assert accepted == []


# -- new secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [(PrincipalKind.API_KEY, "hg_ak_"), (PrincipalKind.ACCESS_TOKEN, "hg_pat_")],
)
def test_new_secret_is_parsed_as_credential(kind: PrincipalKind, prefix: str) -> None:
    new = make_secret(kind)
    assert re.fullmatch(prefix + "[0-9a-f]{48}", new.secret)
    assert new == NewSecret(new.secret, new.secret[:10], sha256(new.secret.encode()).digest())
    for headers in ({"X-API-Key": new.secret}, {"Authorization": f"Bearer {new.secret}"}):
        assert parse(headers) == Credential(kind, new.digest)


def test_new_secret_is_absent_from_its_repr() -> None:
    new = make_secret(PrincipalKind.API_KEY)
    assert new.secret not in repr(new)
    assert new.secret[10:] not in repr(new)


def test_make_secret_for_session_raises_key_error() -> None:
    with pytest.raises(KeyError):
        make_secret(PrincipalKind.SESSION)


def test_new_secrets_are_uniformly_random() -> None:
    secrets = [make_secret(PrincipalKind.API_KEY).secret for _ in range(10_000)]
    assert len(set(secrets)) == 10_000
    for position in range(6, 54):
        counts = Counter(secret[position] for secret in secrets)
        # 625 of each digit are expected; six standard deviations are 145.
        assert len(counts) == 16, position
        assert all(480 < count < 770 for count in counts.values()), position
