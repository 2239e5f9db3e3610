"""Session cookies as next-auth 4 and Auth.js 5 make them, and odder ones that they never would."""

import base64
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.jwk import OctKey, thumbprint

SECRET = "an-invented-secret-of-the-tests-48b1c7e2f0"
OTHER_SECRET = "another-invented-secret-of-the-tests-93da"

V4_NAME, V5_NAME = "next-auth.session-token", "authjs.session-token"
V4_CHUNK, V5_CHUNK = 3933, 3936

MONTH = 30 * 24 * 60 * 60


def make_claims(now: float, /, **changes: Any) -> dict[str, Any]:
    """The claims of a fresh sign-in, changed; a change to `...` leaves the claim out."""
    claims = {
        "name": "Ada Lovelace",
        "email": "Ada@Acme.example",
        "picture": "https://acme.example/ada.png",
        "sub": "user-1",
        "iat": int(now),
        "exp": int(now) + MONTH,
        "jti": "5d0c9b86-0c0e-4a8e-9f1e-0a6d2f6f7a11",
    } | changes
    return {name: value for name, value in claims.items() if value is not ...}


def derive_v4_key(secret: str, salt: str = "") -> bytes:
    """The key of next-auth 4; its state, PKCE and nonce cookies have their name for a salt."""
    return _derive("NextAuth.js Generated Encryption Key", secret, salt, 32)


def derive_v5_key(secret: str, name: str, size: int = 64) -> bytes:
    """The key of Auth.js 5 for the cookie of that name, which has no chunk's number in it."""
    return _derive("Auth.js Generated Encryption Key", secret, name, size)


def _derive(words: str, secret: str, salt: str, size: int) -> bytes:
    info = f"{words} ({salt})" if salt else words
    return HKDF(SHA256(), size, salt.encode(), info.encode()).derive(secret.encode())


def find_thumbprint(key: bytes) -> str:
    """What Auth.js 5 writes as `kid`."""
    return thumbprint(OctKey.import_key(key).as_dict(), "sha512")


def mint_v4(claims: Any, *, secret: str = SECRET, salt: str = "") -> str:
    """The token of next-auth 4, the same for each of its cookie names."""
    header = {"alg": "dir", "enc": "A256GCM"}
    return seal(derive_v4_key(secret, salt), header, json.dumps(claims))


def mint_v5(
    claims: Any, *, name: str = V5_NAME, secret: str = SECRET, kid: str | None = None
) -> str:
    """The token of Auth.js 5 for the cookie of that name; a `kid` of "" is left out."""
    key = derive_v5_key(secret, name)
    header = {"alg": "dir", "enc": "A256CBC-HS512"}
    if kid != "":
        header["kid"] = kid or find_thumbprint(key)
    return seal(key, header, json.dumps(claims))


def seal(key: bytes, header: Mapping[str, Any], payload: str | bytes) -> str:
    """Any payload under any algorithms that joserfc knows."""
    algorithms = [value for value in header.values() if isinstance(value, str)]
    registry = jwe.JWERegistry(algorithms=algorithms, strict_check_header=False)
    return jwe.encrypt_compact(dict(header), payload, OctKey.import_key(key), registry=registry)


def seal_anyhow(key: bytes, header: str, payload: bytes) -> str:
    """An A256GCM token that is genuine but for its header, which may be any text."""
    aad, nonce = _encode(header.encode()), os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, payload, aad.encode())
    return f"{aad}..{_encode(nonce)}.{_encode(sealed[:-16])}.{_encode(sealed[-16:])}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def chunk(name: str, token: str, size: int = V4_CHUNK) -> list[tuple[str, str]]:
    """The cookie or cookies that carry a token: chunks where it is longer than `size`."""
    if len(token) <= size:
        return [(name, token)]
    starts = range(0, len(token), size)
    return [(f"{name}.{n}", token[start : start + size]) for n, start in enumerate(starts)]


def make_cookie_header(cookies: Iterable[tuple[str, str]]) -> str:
    """The value of the Cookie header that brings these cookies."""
    return "; ".join(f"{name}={value}" for name, value in cookies)
