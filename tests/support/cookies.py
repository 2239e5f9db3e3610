"""Session cookies in the format of next-auth 4 and Auth.js 5, valid and malformed ones."""

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
    """Return the claims of a new session with some changed; the value `...` omits a claim."""
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
    """Return the key of next-auth 4. Its state, PKCE and nonce cookies use their name as salt."""
    return _derive("NextAuth.js Generated Encryption Key", secret, salt, 32)


def derive_v5_key(secret: str, name: str, size: int = 64) -> bytes:
    """Return the key of Auth.js 5 for a cookie name without the chunk number."""
    return _derive("Auth.js Generated Encryption Key", secret, name, size)


def _derive(label: str, secret: str, salt: str, size: int) -> bytes:
    info = f"{label} ({salt})" if salt else label
    return HKDF(SHA256(), size, salt.encode(), info.encode()).derive(secret.encode())


def find_thumbprint(key: bytes) -> str:
    """Return the thumbprint that Auth.js 5 writes as `kid`."""
    return thumbprint(OctKey.import_key(key).as_dict(), "sha512")


def mint_v4(claims: Any, *, secret: str = SECRET, salt: str = "") -> str:
    """Return a token of next-auth 4, valid for each of its cookie names."""
    header = {"alg": "dir", "enc": "A256GCM"}
    return seal(derive_v4_key(secret, salt), header, json.dumps(claims))


def mint_v5(
    claims: Any, *, name: str = V5_NAME, secret: str = SECRET, kid: str | None = None
) -> str:
    """Return a token of Auth.js 5 for one cookie name; a `kid` of "" is omitted."""
    key = derive_v5_key(secret, name)
    header = {"alg": "dir", "enc": "A256CBC-HS512"}
    if kid != "":
        header["kid"] = kid or find_thumbprint(key)
    return seal(key, header, json.dumps(claims))


def seal(key: bytes, header: Mapping[str, Any], payload: str | bytes) -> str:
    """Encrypt any payload with any algorithm of joserfc."""
    algorithms = [value for value in header.values() if isinstance(value, str)]
    registry = jwe.JWERegistry(algorithms=algorithms, strict_check_header=False)
    return jwe.encrypt_compact(dict(header), payload, OctKey.import_key(key), registry=registry)


def seal_unchecked(key: bytes, header: str, payload: bytes) -> str:
    """Return an authentic A256GCM token whose header may be any text."""
    aad, nonce = _encode(header.encode()), os.urandom(12)
    encrypted = AESGCM(key).encrypt(nonce, payload, aad.encode())
    return f"{aad}..{_encode(nonce)}.{_encode(encrypted[:-16])}.{_encode(encrypted[-16:])}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def chunk(name: str, token: str, size: int = V4_CHUNK) -> list[tuple[str, str]]:
    """Return the cookies of a token: one, or chunks if it is longer than `size` characters."""
    if len(token) <= size:
        return [(name, token)]
    starts = range(0, len(token), size)
    return [(f"{name}.{n}", token[start : start + size]) for n, start in enumerate(starts)]


def make_cookie_header(cookies: Iterable[tuple[str, str]]) -> str:
    """Return the value of the Cookie header for these cookies."""
    return "; ".join(f"{name}={value}" for name, value in cookies)
