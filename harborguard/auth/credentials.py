"""What a request shows of itself -> a credential; and the making of keys and tokens."""

import re
import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from harborguard.auth.sessions import Cookies, SessionIdentity, SessionReader
from harborguard.errors import Unauthenticated
from harborguard.model import PrincipalKind

_PREFIXES = {PrincipalKind.API_KEY: "hg_ak_", PrincipalKind.ACCESS_TOKEN: "hg_pat_"}
_KINDS = {prefix: kind for kind, prefix in _PREFIXES.items()}
_SECRET = re.compile(rf"({'|'.join(_KINDS)})[A-Za-z0-9_-]+")
_MAX_LENGTH = 256
# The scheme is a whole word, of the characters that RFC 9110 (5.6.2) lets a word have.
_BEARER = re.compile(r"bearer(?![!#$%&'*+.^_`|~0-9a-z-]) ?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """What to look a principal up by: a key's or token's SHA-256, or whom a session names."""

    kind: PrincipalKind
    digest: bytes | None = None
    identity: SessionIdentity | None = None


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A key or token at the one moment it is in clear; `prefix` and `digest` are to be stored."""

    secret: str = field(repr=False)
    prefix: str
    digest: bytes


class Headers(Protocol):
    """A request's headers, by name in any case; a plain mapping must use the names written here."""

    def get(self, name: str, /) -> str | None:
        """The value of the named header, or None."""
        ...


def make_secret(kind: PrincipalKind) -> NewSecret:
    """A new API key or access token of 192 random bits; KeyError for a session, which has none."""
    secret = _PREFIXES[kind] + secrets.token_hex(24)
    return NewSecret(secret, secret[:10], _digest(secret))


def parse_credential(
    headers: Headers, cookies: Cookies, sessions: SessionReader | None
) -> Credential:
    """The credential that counts: X-API-Key, else Authorization: Bearer, else a session cookie.

    `sessions` is None where sessions are not configured: no cookie is then a credential.
    Unauthenticated, always in the same words, if there is none, or if the first one present cannot
    be one: no other is tried (contract, section 4).
    """
    secret = _find_secret(headers)
    if secret is not None:
        return _parse_secret(secret)
    identity = sessions.find_identity(cookies, time.time()) if sessions else None
    if identity is None:
        raise Unauthenticated("missing")
    return Credential(PrincipalKind.SESSION, identity=identity)


def _find_secret(headers: Headers) -> str | None:
    api_key = headers.get("X-API-Key")
    if api_key is not None:
        return api_key
    authorization = headers.get("Authorization") or ""
    scheme = _BEARER.match(authorization)
    return authorization[scheme.end() :] if scheme else None


def _parse_secret(secret: str) -> Credential:
    match = _SECRET.fullmatch(secret) if len(secret) <= _MAX_LENGTH else None
    if match is None:
        raise Unauthenticated
    return Credential(_KINDS[match[1]], _digest(secret))


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
