"""Parse the credential of a request, and generate API keys and access tokens (contract 4)."""

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
# "Bearer" must be the whole scheme: the excluded characters are the others of an RFC 9110 token
# (section 5.6.2).
_BEARER = re.compile(r"bearer(?![!#$%&'*+.^_`|~0-9a-z-]) ?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """The lookup key of a principal: a secret's SHA-256, or the identity of a session."""

    kind: PrincipalKind
    digest: bytes | None = None
    identity: SessionIdentity | None = None


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A new API key or access token. Only `prefix` and `digest` are stored."""

    secret: str = field(repr=False)
    prefix: str
    digest: bytes


class Headers(Protocol):
    """Headers of a request.

    A case-sensitive mapping must name them `X-API-Key` and `Authorization`.
    """

    def get(self, name: str, /) -> str | None:
        """Return the value of a header, or None."""
        ...


def make_secret(kind: PrincipalKind) -> NewSecret:
    """Generate an API key or access token of 192 random bits.

    Raise KeyError for a session, which has no secret.
    """
    secret = _PREFIXES[kind] + secrets.token_hex(24)
    return NewSecret(secret, secret[:10], _digest(secret))


def parse_credential(
    headers: Headers, cookies: Cookies, sessions: SessionReader | None
) -> Credential:
    """Return the first credential present: X-API-Key, Authorization: Bearer, session cookie.

    Raise Unauthenticated if there is none, or if the first one is malformed: the others are not
    tried then (contract 4). If `sessions` is None, sessions are not configured and cookies are
    ignored.
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
