import json
import os
import random
import re
import string
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OctKey

from harborguard.auth import sessions
from harborguard.auth.sessions import SessionIdentity, SessionReader
from harborguard.errors import ConfigurationError, Unauthenticated
from tests.support.cookies import (
    MONTH,
    OTHER_SECRET,
    SECRET,
    V4_NAME,
    V5_CHUNK,
    V5_NAME,
    chunk,
    derive_v4_key,
    derive_v5_key,
    find_thumbprint,
    make_claims,
    mint_v4,
    mint_v5,
    seal,
    seal_anyhow,
)

NOW = 1_800_000_000
ADA = SessionIdentity(email="ada@acme.example")
BOB = SessionIdentity(email="bob@acme.example")
NAMES = [p + n for p in ("__Secure-", "__Host-", "") for n in (V5_NAME, V4_NAME)]
V4_HEADER = {"alg": "dir", "enc": "A256GCM"}
V5_HEADER = {"alg": "dir", "enc": "A256CBC-HS512"}

reader = SessionReader([SECRET])


def find(*cookies: tuple[str, str], now: float = NOW, by: SessionReader = reader) -> Any:
    return by.find_identity(cookies, now)


def find_v4(now: float = NOW, /, **changes: Any) -> Any:
    return find((V4_NAME, mint_v4(make_claims(NOW, **changes))), now=now)


def is_refused(*cookies: tuple[str, str], now: float = NOW, by: SessionReader = reader) -> bool:
    with pytest.raises(Unauthenticated) as refusal:
        find(*cookies, now=now, by=by)
    assert Unauthenticated().message == refusal.value.message
    assert refusal.value.__suppress_context__  # what the libraries say of a token is not for logs
    return True


def mint(name: str, claims: dict[str, Any], **keywords: Any) -> str:
    is_v4 = name.endswith(V4_NAME)
    return mint_v4(claims, **keywords) if is_v4 else mint_v5(claims, name=name, **keywords)


def test_it_works() -> None:
    assert find(("theme", "dark"), (V4_NAME, mint_v4(make_claims(NOW)))) == ADA
    assert find(("theme", "dark"), (V5_NAME, mint_v5(make_claims(NOW)))) == ADA
    assert find(("theme", "dark")) is None
    assert find() is None


# What next-auth 4.24.15 and @auth/core 0.41.3 themselves made of one secret, issued at `ISSUED_AT`.
LIBRARY_SECRET = "known-answer-7f1c-only-for-unit-tests"
ISSUED_AT = 1_795_459_235
LIBRARY_COOKIES = [
    (
        "next-auth.session-token",
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..BI_hdFmK4OHVp8mh.EbI8vmiwKKzp0mucZdIlP4qIwPsl"
        "eeCwm0xOWMBs1AKNOa9a7BZ1JM0KDBRE_2RPZkekVwDdkQYNbMS_xMhDDf042xNbOmCxYORWV0EOgMKzVrnxnb"
        "LFLMn_wCxpUXu1JroMrbrZxqsJrmbDlNbuq5hDM5tKG3PWIUHKkwhY5dMbxctHINrWWTZe4YK9418lBjiXSIwq"
        ".C5DrxurlpDD-xZUghH5X2w",
    ),
    (
        "authjs.session-token",
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIiwia2lkIjoiSzJWd2ZQcXIxdXdaanFmZ1pjUFNPNW"
        "xPaWxQUng5SkJYODdxQUlIOEF1TjRJWENMRm1qYWh4TlRESkE3Z2c0cEJ5MGphaTEtRWJSN0R1WmZSWHFpUkEi"
        "fQ..ZifSm5sdF0Py-BQV4qu-8w.O1k1Fy3KVyA308PrKNcDRYQsMLx2b1HiShwWMaxsLZ9xTOe3KqmHY3Ug65z"
        "yaVrA28GlKiQO-m9yR76P16GDb19_7yBqwZeW3jZ0FsywOALt52u4WXiX_N6nPQNUqtdjm4CZQkkWfO70ZOMCz"
        "J9vPmmms9hKWdgWYpmGcIWl-KNjZZ5sdFaxfXPRK7lufzn6oDRmztriIK6of0gCLsLQCQ.kaWg-2HMM7gG_j1d"
        "lrqTgm_601lC_WDx0OirMiCbRxk",
    ),
    (
        "__Secure-authjs.session-token",
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIiwia2lkIjoiSnZhMlZ3aWZtMUduMjNjSE1UdW5vSW"
        "52X0l3Y2RZMVdYSndrUDIxcktNV0NISi10NURCdEgxTWxrQ0Z4MkJ3TlVvQW81YnlydWZnSjBvQXVheHd2dmci"
        "fQ..q7bZM_9oUFefPpYuzclUAg.KuVa-ixbpSz8O4iXWFmA2ZwtzFGqHVxNHEnLteP1zzAn9pka7cIa-fy2ARw"
        "yCGWv4ka52CKD4GLT7qDsSL7l0ZpwkZwJQXyXqnt6vJEqBxEj5AkaqXEavZZg6ToQaMbdnPaMePYD8MbTwC97u"
        "DHeHPnUa3-kUnkdV7l1ehJJ3XEsuvtsVjXmSG785lkYlfhYomORXgOsbEKnKksI-1TgCQ.QvZ4nNqYbrzl0rTf"
        "StbmK7ydF9Y2IuUKDFfATqoS4JQ",
    ),
    (
        "next-auth.session-token",
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIiwia2lkIjoiX013dFJCLUtkQk1KRjdjSk1XX1ZZTG"
        "dSdHVtRWRkSzJNeGpqRFN1UmJRUTlzSnQydjVJc0w2MGhYUldMTUV5NW9SV0xqR19OcjlfOVNmUXo1T0plOFEi"
        "fQ..b3UyhYs_JqNlj6lMfrzKJw.CA-HqsLr9QKph3iwpzYkUEsT38qn83JXsDcVhY6jeX0e6eOoqbOI0DFjNhy"
        "e9wn0xQGY1gLufODiFWOYRP8752zEGGv2EzfYlXTTisJpKzf6TVlHvnKv62tS7sYHfifPpsyWeBkSJ8sBz1Bpn"
        "XwDF1Yqn9hjhE38je5Kc42MI399BMHZmwk4Zqq7DqGoUSPr8QPXfPlRQfHeaVw-5WbY7w.YtNJIYWVa8c39PmD"
        "T03XFHLXrWAovjCNA-ACox6cg_E",
    ),
]


@pytest.mark.parametrize(("name", "token"), LIBRARY_COOKIES, ids=lambda text: text[:30])
def test_tokens_of_the_libraries_themselves_open(name: str, token: str) -> None:
    by = SessionReader([LIBRARY_SECRET])
    expected = SessionIdentity(email="ada@example.test")
    assert expected == find((name, token), now=ISSUED_AT + 60, by=by)
    assert is_refused((name, token), now=ISSUED_AT + MONTH + 16, by=by)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kid", [None, ""])
def test_every_name_can_carry_a_token_of_version_5(name: str, kid: str | None) -> None:
    assert find((name, mint_v5(make_claims(NOW), name=name, kid=kid))) == ADA


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(V4_NAME)])
def test_a_token_of_version_4_is_good_under_each_of_its_names(name: str) -> None:
    assert find((name, mint_v4(make_claims(NOW)))) == ADA


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sealed_for", NAMES)
def test_a_token_of_version_5_is_good_under_one_name_only(name: str, sealed_for: str) -> None:
    token = mint_v5(make_claims(NOW), name=sealed_for)
    assert (find((name, token)) == ADA) if name == sealed_for else is_refused((name, token))


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(V5_NAME)])
@pytest.mark.parametrize(
    "key", [derive_v4_key(SECRET), derive_v5_key(SECRET, V5_NAME, 32)], ids=["v4", "v5"]
)
def test_the_names_of_version_5_carry_no_gcm(name: str, key: bytes) -> None:
    token = seal(key, V4_HEADER, json.dumps(make_claims(NOW)))
    assert is_refused((name, token))


@pytest.mark.parametrize("name", NAMES)
def test_another_secret_is_refused(name: str) -> None:
    assert is_refused((name, mint(name, make_claims(NOW), secret=OTHER_SECRET)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("secrets", [[SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET]])
def test_each_secret_of_a_rotation_opens(name: str, secrets: list[str]) -> None:
    by = SessionReader(secrets)
    for secret in secrets:
        assert find((name, mint(name, make_claims(NOW), secret=secret)), by=by) == ADA
    assert is_refused((name, mint(name, make_claims(NOW), secret="c5-third" * 4 + "!")), by=by)


@pytest.mark.parametrize("secrets", [[SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET]])
def test_a_token_of_version_5_without_kid_opens_with_any_secret(secrets: list[str]) -> None:
    by = SessionReader(secrets)
    for secret in secrets:
        token = mint_v5(make_claims(NOW), secret=secret, kid="")
        assert find((V5_NAME, token), by=by) == ADA


def test_a_kid_picks_the_one_key_to_try() -> None:
    by = SessionReader([SECRET, OTHER_SECRET])
    foreign = find_thumbprint(derive_v5_key(OTHER_SECRET, V5_NAME))
    for kid in (foreign, "unknown", find_thumbprint(derive_v5_key(SECRET, V4_NAME))):
        assert is_refused((V5_NAME, mint_v5(make_claims(NOW), kid=kid)), by=by)


def count_openings(monkeypatch: pytest.MonkeyPatch) -> list[OctKey]:
    tried: list[OctKey] = []
    original = jwe.decrypt_compact

    def note(token: str, key: OctKey, **keywords: Any) -> Any:
        tried.append(key)
        return original(token, key, **keywords)

    monkeypatch.setattr(sessions.jwe, "decrypt_compact", note)
    return tried


def test_one_key_is_tried_where_kid_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = count_openings(monkeypatch)
    by = SessionReader(["c5-third" * 4 + "!", OTHER_SECRET, SECRET])
    assert find((V5_NAME, mint_v5(make_claims(NOW))), by=by) == ADA
    assert len(tried) == 1


# The same key sealed the cookies of a sign-in under way, state, PKCE and nonce, before
# next-auth 4.24.5 (CVE-2023-48309); since then their name salts it.
SIGN_IN_CLAIMS = [
    {"state": "9SIpp"},
    {"code_verifier": "qKq1"},
    {"nonce": "b7"},
    {"value": "9SIpp"},
]


@pytest.mark.parametrize("claims", SIGN_IN_CLAIMS, ids=lambda claims: next(iter(claims)))
@pytest.mark.parametrize("salt", ["", "next-auth.state", "__Secure-next-auth.pkce.code_verifier"])
def test_the_cookie_of_a_sign_in_is_no_session(claims: dict[str, str], salt: str) -> None:
    assert is_refused((V4_NAME, mint_v4(claims | {"iat": NOW, "exp": NOW + 900}, salt=salt)))


def test_a_salted_cookie_is_no_session_whatever_it_says() -> None:
    assert is_refused((V4_NAME, mint_v4(make_claims(NOW), salt="next-auth.state")))
    assert is_refused((V4_NAME, mint_v4(make_claims(NOW), salt=V4_NAME)))


@pytest.mark.parametrize("name", ["authjs.state", "authjs.pkce.code_verifier", V4_NAME])
def test_a_cookie_of_version_5_salted_with_another_name_is_no_session(name: str) -> None:
    assert is_refused((V5_NAME, mint_v5(make_claims(NOW), name=name)))


# -- headers ------------------------------------------------------------------------------------

GOOD_PAYLOAD = json.dumps(make_claims(NOW)).encode()


def seal_v4_anyhow(**members: Any) -> str:
    header = json.dumps(V4_HEADER | members)
    return seal_anyhow(derive_v4_key(SECRET), header, GOOD_PAYLOAD)


def test_harmless_header_members_are_allowed() -> None:
    assert find((V4_NAME, seal_v4_anyhow())) == ADA
    assert find((V4_NAME, seal_v4_anyhow(typ="JWT", cty="JSON", kid="anything"))) == ADA
    header = V5_HEADER | {"typ": "JWT", "cty": "JSON"}
    token = seal(derive_v5_key(SECRET, V5_NAME), header, GOOD_PAYLOAD)
    assert find((V5_NAME, token)) == ADA


ODD_HEADERS = {
    "alg none": {"alg": "none"},
    "alg in capitals": {"alg": "DIR"},
    "alg of a signature": {"alg": "HS256"},
    "alg null": {"alg": None},
    "alg list": {"alg": ["dir"]},
    "PBES2, a thousand million rounds": {"alg": "PBES2-HS512+A256KW", "p2c": 10**9, "p2s": "AAAA"},
    "dir with p2c": {"p2c": 10**9},
    "A256KW": {"alg": "A256KW"},
    "A256GCMKW": {"alg": "A256GCMKW", "iv": "AAAA", "tag": "AAAA"},
    "ECDH-ES": {"alg": "ECDH-ES", "epk": {"kty": "EC"}},
    "other enc": {"enc": "A128GCM"},
    "enc of other size": {"enc": "A192CBC-HS384"},
    "enc of version 5 in name only": {"enc": "A256CBC-HS512"},
    "enc null": {"enc": None},
    "enc list": {"enc": ["A256GCM"]},
    "zip": {"zip": "DEF"},
    "zip null": {"zip": None},
    "crit": {"crit": ["exp"], "exp": 1},
    "crit empty": {"crit": []},
    "jku": {"jku": "https://evil.example/keys"},
    "jwk": {"jwk": {"kty": "oct", "k": "AAAA"}},
    "x5u": {"x5u": "https://evil.example/certificate"},
    "x5c": {"x5c": ["AAAA"]},
    "b64": {"b64": False},
    "unknown": {"iss": "acme"},
    "kid a number": {"kid": 1},
    "kid null": {"kid": None},
    "kid object": {"kid": {}},
    "typ list": {"typ": []},
}
ODD_HEADER_TEXTS = {
    "no alg": '{"enc":"A256GCM"}',
    "no enc": '{"alg":"dir"}',
    "empty": "{}",
    "nothing": " ",
    "null": "null",
    "list": "[]",
    "text": '"dir"',
    "number": "1",
    "cut off": '{"alg":"dir","enc":"A256GCM"',
    "trailing": '{"alg":"dir","enc":"A256GCM"}{}',
    "byte order mark": '\ufeff{"alg":"dir","enc":"A256GCM"}',
    "NaN": '{"alg":"dir","enc":"A256GCM","kid":NaN}',
    "deep": '{"alg":"dir","enc":"A256GCM","kid":' + "[" * 5000 + "]" * 5000 + "}",
    "deep unknown": '{"x":' + '{"x":' * 5000 + "1" + "}" * 5001,
    "long": '{"alg":"dir","enc":"A256GCM","kid":"' + "x" * 3000 + '"}',
    "alg twice, the last is other": '{"alg":"dir","enc":"A256GCM","alg":"none"}',
    "enc twice, the last is other": '{"alg":"dir","enc":"A256GCM","enc":"A128GCM"}',
    "lone surrogate": '{"alg":"dir","enc":"A256GCM","kid":"\\ud800"}',
}


@pytest.mark.parametrize("members", ODD_HEADERS.values(), ids=ODD_HEADERS.keys())
def test_an_odd_header_is_refused_before_any_crypto(
    members: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = seal_v4_anyhow(**members)
    tried = count_openings(monkeypatch)
    started_at = time.perf_counter()
    if members != {"enc": "A256CBC-HS512"}:
        assert is_refused((V4_NAME, token)), tried
        assert tried == []
    assert is_refused((V5_NAME, token))
    assert time.perf_counter() - started_at < 1


@pytest.mark.parametrize("header", ODD_HEADER_TEXTS.values(), ids=ODD_HEADER_TEXTS.keys())
def test_an_odd_header_text_is_refused(header: str) -> None:
    assert is_refused((V4_NAME, seal_anyhow(derive_v4_key(SECRET), header, GOOD_PAYLOAD)))


def test_the_algorithms_are_refused_even_with_a_key_that_fits() -> None:
    v4, v5 = derive_v4_key(SECRET), derive_v5_key(SECRET, V4_NAME)
    assert find((V4_NAME, seal(v5, V5_HEADER, GOOD_PAYLOAD))) == ADA
    for key, header in [
        (v4, {"alg": "dir", "enc": "A128CBC-HS256"}),
        (v4, {"alg": "A256KW", "enc": "A256GCM"}),
        (v4, {"alg": "A256GCMKW", "enc": "A256GCM"}),
        (v4, {"alg": "PBES2-HS256+A128KW", "enc": "A256GCM"}),
        (v5[:48], {"alg": "dir", "enc": "A192CBC-HS384"}),
        (v5, {"alg": "PBES2-HS512+A256KW", "enc": "A256CBC-HS512"}),
        (v4, {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}),
    ]:
        algorithms = [*header.values()]
        registry = jwe.JWERegistry(algorithms=algorithms)
        token = jwe.encrypt_compact(header, GOOD_PAYLOAD, OctKey.import_key(key), registry=registry)
        assert is_refused((V4_NAME, token)), header


def test_a_compressed_payload_is_not_inflated() -> None:
    header = {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}
    bomb = json.dumps(make_claims(NOW, bomb="0" * 200_000))
    token = seal(derive_v4_key(SECRET), header, bomb)
    assert len(token) < 2000
    assert is_refused((V4_NAME, token))


# -- tokens ---------------------------------------------------------------------------------------

TOKEN = mint_v4(make_claims(NOW))
HEADER, _, NONCE, CIPHERTEXT, TAG = TOKEN.split(".")
ODD_TOKENS = {
    "empty": "",
    "blank": " ",
    "opaque": "a3c1f1de-6a38-4a5e-9b39-0e6c2d5c8a11",
    "dots": "....",
    "more dots": "." * 5000,
    "signed, not encrypted": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJl",
    "unsigned": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyLTEifQ.",
    "four parts": TOKEN.replace("..", "."),
    "six parts": f"{TOKEN}.{TAG}",
    "an encrypted key": TOKEN.replace("..", f".{NONCE}."),
    "no tag": f"{HEADER}..{NONCE}.{CIPHERTEXT}.",
    "short tag": f"{HEADER}..{NONCE}.{CIPHERTEXT}.{TAG[:16]}",
    "one byte of tag": f"{HEADER}..{NONCE}.{CIPHERTEXT}.{TAG[:2]}",
    "long tag": f"{HEADER}..{NONCE}.{CIPHERTEXT}.{TAG}AAAA",
    "other end of the same tag": TOKEN[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}[TAG[-1]],
    "no nonce": f"{HEADER}...{CIPHERTEXT}.{TAG}",
    "short nonce": f"{HEADER}..{NONCE[:4]}.{CIPHERTEXT}.{TAG}",
    "long nonce": f"{HEADER}..{NONCE}{NONCE}.{CIPHERTEXT}.{TAG}",
    "no ciphertext": f"{HEADER}..{NONCE}..{TAG}",
    "parts in other order": f"{HEADER}..{CIPHERTEXT}.{NONCE}.{TAG}",
    "padded": TOKEN + "==",
    "padded header": TOKEN.replace("..", "==..", 1),
    "standard alphabet": TOKEN[:-1] + "+",
    "blank before": " " + TOKEN,
    "blank after": TOKEN + " ",
    "new line after": TOKEN + "\n",
    "NUL after": TOKEN + "\0",
    "quoted": f'"{TOKEN}"',
    "two joined": f"{TOKEN},{V4_NAME}={TOKEN}",
    "percent-encoded": TOKEN.replace(".", "%2E"),
    "not ASCII": TOKEN[:-1] + "é",
    "full-width letter": TOKEN[:-1] + "\uff21",
    "lone surrogate": TOKEN[:-1] + "\ud800",
    "of 64 KB": "A" * 65536,
    "good, then 64 KB": f"{HEADER}..{NONCE}.{'A' * 65536}.{TAG}",
}


@pytest.mark.parametrize("token", ODD_TOKENS.values(), ids=ODD_TOKENS.keys())
def test_an_odd_token_is_refused(token: str) -> None:
    for name in NAMES:
        assert is_refused((name, token))


def test_an_empty_plaintext_is_refused() -> None:
    assert is_refused((V4_NAME, seal(derive_v4_key(SECRET), V4_HEADER, b"")))
    v5 = seal(derive_v5_key(SECRET, V5_NAME), V5_HEADER, b"")
    assert is_refused((V5_NAME, v5))


MUTATIONS: list[Callable[[str, int, str], str]] = [
    lambda token, at, letter: token[:at] + letter + token[at + 1 :],
    lambda token, at, letter: token[:at] + letter + token[at:],
    lambda token, at, letter: token[:at] + token[at + 1 :],
    lambda token, at, letter: token[:at],
    lambda token, at, letter: token[at:],
    lambda token, at, letter: token[at:] + token[:at],
    lambda token, at, letter: token[:at] + token[at:].swapcase(),
]


def test_no_mutation_of_a_good_token_is_accepted() -> None:
    letters = string.ascii_letters + string.digits + "-_.=+/ \n\0é"
    chance = random.Random(20_000)
    goods = {name: mint(name, make_claims(NOW)) for name in NAMES}
    accepted = []
    for _ in range(20_000):
        name = chance.choice(NAMES)
        good = goods[name]
        mutate = chance.choice(MUTATIONS)
        token = mutate(good, chance.randrange(len(good)), chance.choice(letters))
        try:
            find((name, token))
        except Unauthenticated:
            continue
        if token != good:
            accepted.append((name, token))
    assert accepted == []


@given(
    at=st.integers(0, len(TOKEN) - 1),
    length=st.integers(0, 20),
    put=st.text(max_size=20) | st.text(string.ascii_letters + "-_.", max_size=20),
)
def test_no_splice_of_a_good_token_is_accepted(at: int, length: int, put: str) -> None:
    token = TOKEN[:at] + put + TOKEN[at + length :]
    if token != TOKEN:
        assert is_refused((V4_NAME, token))


@given(st.lists(st.tuples(st.sampled_from([*NAMES, f"{V4_NAME}.0", "x"]), st.text()), max_size=4))
def test_no_foreign_cookie_is_accepted_or_raises_otherwise(cookies: list[tuple[str, str]]) -> None:
    try:
        assert find(*cookies) is None
    except Unauthenticated:
        return
    assert all(name == "x" for name, _ in cookies)


# -- payloads and claims --------------------------------------------------------------------------

ODD_PAYLOADS = {
    "list": b"[]",
    "list of claims": b"[" + GOOD_PAYLOAD + b"]",
    "null": b"null",
    "true": b"true",
    "number": b"1",
    "text": b'"ada@acme.example"',
    "no JSON": b"ada@acme.example",
    "cut off": GOOD_PAYLOAD[:-1],
    "two objects": GOOD_PAYLOAD * 2,
    "no UTF-8": GOOD_PAYLOAD.replace(b"Ada@", b"\xff@"),
    "UTF-16": GOOD_PAYLOAD.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD_PAYLOAD,
    "NUL bytes": b"\0" * 64,
    "deep": b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"," + GOOD_PAYLOAD[1:],
    "a control character unescaped": GOOD_PAYLOAD.replace(b"Ada@", b"Ada\x01@"),
}


@pytest.mark.parametrize("payload", ODD_PAYLOADS.values(), ids=ODD_PAYLOADS.keys())
def test_a_payload_that_is_no_object_of_claims_is_refused(payload: bytes) -> None:
    assert is_refused((V4_NAME, seal(derive_v4_key(SECRET), V4_HEADER, payload)))
    v5 = seal(derive_v5_key(SECRET, V5_NAME), V5_HEADER, payload)
    assert is_refused((V5_NAME, v5))


def find_raw(claim: str, value: str) -> Any:
    claims = json.dumps(make_claims(NOW, **{claim: ...}))
    payload = f'{claims[:-1]}, "{claim}": {value}}}'
    return find((V4_NAME, seal(derive_v4_key(SECRET), V4_HEADER, payload)))


NO_TIMES = [
    *["null", "true", "false", "NaN", "Infinity", "-Infinity", "[]", "{}", '""', "[1900000000]"],
    *['"1900000000"', '"never"', "1e400", "1" + "0" * 400, "0x7fffffff", "1900000000n"],
]


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", NO_TIMES, ids=lambda value: value[:12])
def test_a_time_that_is_no_finite_number_is_refused(claim: str, value: str) -> None:
    with pytest.raises(Unauthenticated):
        find_raw(claim, value)


@pytest.mark.parametrize("value", ["0", "-1", "-1e300", "1e-300", "1", "1799999984"])
def test_an_exp_in_the_past_is_refused(value: str) -> None:
    with pytest.raises(Unauthenticated):
        find_raw("exp", value)


@pytest.mark.parametrize("value", ["1e300", "1" + "0" * 300, "1900000000000", "253402300800"])
def test_an_exp_beyond_all_calendars_is_refused(value: str) -> None:
    with pytest.raises(Unauthenticated):
        find_raw("exp", value)


@pytest.mark.parametrize("value", ["1900000000", "1900000000.5", "1.9e9", "253402300799"])
def test_an_exp_may_be_any_kind_of_number(value: str) -> None:
    assert find_raw("exp", value) == ADA


def test_a_token_without_exp_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        find_v4(exp=...)


def test_iat_and_nbf_may_be_absent() -> None:
    assert find_v4(iat=..., nbf=...) == ADA


@pytest.mark.parametrize("grace", [0, 1, 14, 14.9])
def test_clocks_may_differ_by_the_grace(grace: float) -> None:
    assert find_v4(NOW + grace, exp=NOW) == ADA
    assert find_v4(NOW - grace, iat=NOW) == ADA
    assert find_v4(NOW - grace, nbf=NOW) == ADA


@pytest.mark.parametrize("beyond", [15.1, 16, 3600, 10**9])
def test_clocks_may_not_differ_by_more(beyond: float) -> None:
    for now, changes in [
        (NOW + beyond, {"exp": NOW}),
        (NOW - beyond, {"iat": NOW}),
        (NOW - beyond, {"iat": ..., "nbf": NOW}),
    ]:
        with pytest.raises(Unauthenticated):
            find_v4(now, **changes)


def test_a_token_is_good_from_its_first_to_its_last_second() -> None:
    for now in (NOW, NOW + 1, NOW + MONTH - 1, NOW + MONTH):
        assert find_v4(now) == ADA
    with pytest.raises(Unauthenticated):
        find_v4(NOW + MONTH + 15)


def test_the_email_address_goes_before_the_user_id() -> None:
    assert find_v4(email="Ada@ACME.Example", sub="user-1") == ADA
    assert find_v4(email="ADA@acme.example", sub=...) == ADA


@pytest.mark.parametrize("email", [..., None, ""])
def test_the_user_id_counts_where_there_is_no_email_address(email: Any) -> None:
    assert SessionIdentity(user_id="User-1") == find_v4(email=email, sub="User-1")


@pytest.mark.parametrize("email", [..., None, ""])
@pytest.mark.parametrize("sub", [..., None, "", 1, 1.5, True, [], ["user-1"], {"id": "user-1"}])
def test_without_identity_there_is_no_session(email: Any, sub: Any) -> None:
    with pytest.raises(Unauthenticated):
        find_v4(email=email, sub=sub)


@pytest.mark.parametrize("sub", [None, 1, True, [], {"a": 1}, "", "a\0b", "x" * 5000])
def test_sub_does_not_matter_beside_an_email_address(sub: Any) -> None:
    assert find_v4(sub=sub) == ADA


@pytest.mark.parametrize("email", [1, True, False, [], ["ada@acme.example"], {"a": 1}])
def test_an_email_address_that_is_no_text_is_refused(email: Any) -> None:
    with pytest.raises(Unauthenticated):
        find_v4(email=email)


NO_NAMES = [
    *["\0", "ada\0@acme.example", "ada@acme.example\0", "ada@acme.example\n", "ada\r\n@acme"],
    *["ada\t@acme.example", "ada\x7f@acme.example", "ada\x85@acme.example", "ada\u2028@acme"],
    *["ada\u202e@acme.example", "ada\u200b@acme.example", "ada\ud800@acme", "x" * 321],
]


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_an_identity_that_names_nobody_is_refused(name: str) -> None:
    with pytest.raises(Unauthenticated):
        find_v4(email=name)
    with pytest.raises(Unauthenticated):
        find_v4(email=..., sub=name)


def test_an_identity_may_be_as_long_as_an_email_address() -> None:
    assert SessionIdentity(email="x" * 320) == find_v4(email="X" * 320)
    assert SessionIdentity(user_id="X" * 320) == find_v4(email=..., sub="X" * 320)


def test_an_email_address_is_lower_cased_in_every_script() -> None:
    assert SessionIdentity(email="ünal@örnek.example") == find_v4(email="Ünal@ÖRNEK.example")


def test_no_email_address_becomes_an_ascii_one() -> None:
    kelvin = "\N{KELVIN SIGN}"
    assert (f"{kelvin}im@acme.example").lower() == "kim@acme.example"
    with pytest.raises(Unauthenticated):
        find_v4(email=f"{kelvin}im@acme.example")


def test_what_claims_say_of_roles_is_not_read() -> None:
    extras = {"role": "owner", "organizationId": "globex", "isAdmin": True, "scope": ["*"]}
    assert find_v4(**extras) == ADA


# -- which cookie, which chunks -------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), list(pairwise(NAMES)))
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_cookies_the_foremost_name_counts(first: str, second: str, order: int) -> None:
    cookies = [
        (first, mint(first, make_claims(NOW))),
        (second, mint(second, make_claims(NOW, email="bob@acme.example"))),
    ]
    assert find(*cookies[::order]) == ADA
    assert find(*cookies[1:]) == BOB
    for bad in ("", "rubbish", mint(first, make_claims(NOW, exp=NOW - 60))):
        assert is_refused(*[(first, bad), cookies[1]][::order])
    assert is_refused((f"{first}.1", "rubbish"), cookies[1])
    assert find(cookies[0], (second, "rubbish")) == ADA


@pytest.mark.parametrize(
    "name",
    [
        *["next-auth.session-tokenX", "Xnext-auth.session-token", "next-auth.session-token."],
        *["next-auth.session-token.x", "next-auth.session-token.0x", "next-auth.session-token.-1"],
        *[
            "next-auth.session-token.0.0",
            "next-auth.session-token0",
            "next-auth.session-token.\u0660",
        ],
        *["next-auth.session-token\n", "next-auth.session-token.0\n", " next-auth.session-token"],
        *["NEXT-AUTH.session-token", "__secure-next-auth.session-token", "session-token", ""],
        *["__Secure-__Host-next-auth.session-token", "nextXauth.session-token", "next-auth"],
        *["next-authXsession-token", "next-auth.csrf-token", "next-auth.state", "authjs.state"],
        *["authjs.session-token-2", "__Host-authjs.csrf-token", "acme.session-token"],
    ],
)
def test_cookies_of_other_names_are_ignored(name: str) -> None:
    assert find((name, TOKEN)) is None
    assert find((name, "rubbish"), (V4_NAME, TOKEN), (name, "rubbish")) == ADA


BIG = make_claims(NOW, groups="x" * 6500)


def split(token: str, parts: int) -> list[tuple[str, str]]:
    return chunk(V4_NAME, token, -(-len(token) // parts))


@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_joined_in_any_order(name: str) -> None:
    is_v4 = name.endswith(V4_NAME)
    token = mint_v4(BIG) if is_v4 else mint_v5(BIG, name=name)
    cookies = chunk(name, token) if is_v4 else chunk(name, token, V5_CHUNK)
    assert [f"{name}.0", f"{name}.1", f"{name}.2"] == [name for name, _ in cookies]
    assert find(*cookies) == ADA
    assert find(*reversed(cookies)) == ADA
    assert find(cookies[1], ("theme", "dark"), cookies[2], (f"{name}X", "x"), cookies[0]) == ADA


def test_one_chunk_may_be_all() -> None:
    assert find((f"{V4_NAME}.0", TOKEN)) == ADA


def test_eight_chunks_are_the_most() -> None:
    for parts in range(2, 9):
        assert parts == len(split(TOKEN, parts))
        assert find(*split(TOKEN, parts)) == ADA
    assert len(split(TOKEN, 9)) == 9
    assert is_refused(*split(TOKEN, 9))


A, B, C = (value for _, value in split(TOKEN, 3))
ODD_CHUNKS = {
    "0 missing": [("1", B), ("2", C)],
    "0 missing, whole in 1": [("1", TOKEN)],
    "1 missing": [("0", A), ("2", B + C)],
    "last missing": [("0", A), ("1", B)],
    "one more, empty": [("0", A), ("1", B), ("2", C), ("3", "")],
    "one more, after a gap": [("0", A), ("1", B), ("2", C), ("4", "")],
    "values swapped": [("0", B), ("1", A), ("2", C)],
    "first twice": [("0", A), ("0", A), ("1", B), ("2", C)],
    "first twice, one empty": [("0", A), ("0", ""), ("1", B), ("2", C)],
    "last twice": [("0", A), ("1", B), ("2", C), ("2", C)],
    "twice instead of the next": [("0", A), ("0", B), ("1", C)],
    "numbered from 1": [("1", A), ("2", B), ("3", C)],
    "numbered with zeros": [("00", A), ("01", B), ("02", C)],
    "0 in two spellings": [("0", A), ("00", A), ("1", B), ("2", C)],
    "1 in another spelling": [("0", A), ("01", B), ("2", C)],
    "empty first": [("0", ""), ("1", TOKEN)],
    "a huge number": [("0", TOKEN), ("9" * 5000, "")],
    "whole and chunks": [("", TOKEN), ("0", A), ("1", B), ("2", C)],
    "whole and an empty chunk": [("", TOKEN), ("0", "")],
    "empty whole and chunks": [("", ""), ("0", A), ("1", B), ("2", C)],
    "whole twice": [("", TOKEN), ("", TOKEN)],
    "whole twice, one empty": [("", TOKEN), ("", "")],
    "whole twice, one bad": [("", "rubbish"), ("", TOKEN)],
}
EMPTY_MAY_JOIN = {"one more, empty", "empty first"}


@pytest.mark.parametrize("case", ODD_CHUNKS)
def test_odd_chunks_are_refused(case: str) -> None:
    cookies = [(f"{V4_NAME}.{n}" if n else V4_NAME, value) for n, value in ODD_CHUNKS[case]]
    for ordered in (cookies, cookies[::-1]):
        if case in EMPTY_MAY_JOIN:
            assert find(*ordered) == ADA
        else:
            assert is_refused(*ordered)


def test_chunks_of_two_names_are_not_mixed() -> None:
    assert is_refused((f"{V4_NAME}.0", A), (f"{V5_NAME}.1", B), (f"{V4_NAME}.2", C))


def test_a_token_of_16_kilobytes_is_the_longest() -> None:
    lengths = {}
    for filling in range(12_000, 12_090):
        token = mint_v4(make_claims(NOW, filling="x" * filling))
        lengths[len(token)] = token
    longest = max(length for length in lengths if length <= 16_384)
    shortest = min(length for length in lengths if length > 16_384)
    assert longest >= 16_383
    assert find(*chunk(V4_NAME, lengths[longest])) == ADA
    assert find((V4_NAME, lengths[longest])) == ADA
    assert is_refused(*chunk(V4_NAME, lengths[shortest]))
    assert is_refused((V4_NAME, lengths[shortest]))


# -- secrets --------------------------------------------------------------------------------------

WEAK_SECRETS = [
    *["a" * 32, "0" * 64, " " * 40, "changeme" * 4, "0123456789abcdef" * 2, "ab" * 100],
    "2gyZ3GDw3LHZQKDhPmPDL3sjREVRXPr8",
    "complex_password_at_least_32_characters_long",
    "complex_password_at_least_32_characters_long_for_security",
    "do+UspMmB/rewbX2K/rskFmtgGSSZ8Ta",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    "this-is-a-secret-value-with-at-least-32-characters",
]


@pytest.mark.parametrize("secret", ["", "x", "hunter2", SECRET[:31]])
def test_a_short_secret_is_refused_by_name_and_bound(secret: str) -> None:
    for secrets in ([secret], [SECRET, secret]):
        with pytest.raises(ConfigurationError, match=r"NEXTAUTH_SECRET.*32") as refusal:
            SessionReader(secrets)
        assert not secret or secret not in str(refusal.value).split()


@pytest.mark.parametrize("secret", WEAK_SECRETS)
def test_a_secret_that_can_be_guessed_is_refused(secret: str) -> None:
    for secrets in ([secret], [SECRET, secret]):
        with pytest.raises(ConfigurationError, match=r"NEXTAUTH_SECRET.*random") as refusal:
            SessionReader(secrets)
        assert secret not in str(refusal.value)


def test_no_secret_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="NEXTAUTH_SECRET"):
        SessionReader([])


@given(st.text("0123456789abcdef", min_size=32, max_size=32))
def test_only_repetition_makes_a_long_random_secret_weak(secret: str) -> None:
    if re.fullmatch(r"(.+)\1+", secret):
        with pytest.raises(ConfigurationError):
            SessionReader([secret])
    else:
        SessionReader([secret])


def test_a_secret_of_32_characters_of_any_script_is_enough() -> None:
    secret = "пароль-из-тридцати-двух-букв-ёж!"
    assert len(secret) == 32
    by = SessionReader([secret])
    assert find((V4_NAME, mint_v4(make_claims(NOW), secret=secret)), by=by) == ADA


def test_a_secret_that_is_no_utf8_is_no_crash() -> None:
    SessionReader([SECRET + "\udcff"])


def test_a_reader_does_not_show_its_secret() -> None:
    assert SECRET not in repr(reader)
    assert SECRET not in repr(vars(reader))


# -- cookies of real sign-ins, where the environment names a folder of them -----------------------

FOLDER = os.environ.get("HARBORGUARD_COOKIES")


@pytest.mark.skipif(not FOLDER, reason="HARBORGUARD_COOKIES names no folder")
def test_cookies_of_real_sign_ins() -> None:
    samples = json.loads((Path(FOLDER or "") / "next-auth-cookies.json").read_text())
    assert samples["cookies"]
    for sample in samples["cookies"]:
        by = SessionReader([samples["secrets"][sample["secret"]]])
        cookies = sample["cookies"].items()
        parsed = [tuple(pair.split("=", 1)) for pair in sample["cookie_header"].split("; ")]
        assert list(cookies) == parsed
        if sample["expect"] == "accept":
            expected = SessionIdentity(email=sample["email"])
            assert expected == find(*cookies, now=time.time(), by=by), sample["name"]
        else:
            assert sample["expect"].startswith("refuse"), sample["name"]
            assert is_refused(*cookies, now=time.time(), by=by), sample["name"]
