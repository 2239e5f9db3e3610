"""The session cookies of NextAuth (v4) and Auth.js (v5): whom they name, if they are good."""

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import DecodeError, JoseError
from joserfc.jwk import OctKey, thumbprint

from harborguard.errors import ConfigurationError, Unauthenticated

Cookies = Iterable[tuple[str, str]]  # all (name, value) pairs of a request, repeated names included

_V4_NAME, _V5_NAME = "next-auth.session-token", "authjs.session-token"
_PRECEDENCE = [p + name for p in ("__Secure-", "__Host-", "") for name in (_V5_NAME, _V4_NAME)]
# Whole names only: the libraries join any cookie whose name begins like theirs.
_COOKIE = re.compile(rf"({'|'.join(map(re.escape, _PRECEDENCE))})(?:\.([0-9]+))?")
_DIRECT_JWE = re.compile(r"([A-Za-z0-9_-]+)\.(?:\.[A-Za-z0-9_-]+){3}")
_ALGORITHMS = jwe.JWERegistry(algorithms=("dir", "A256GCM", "A256CBC-HS512"))
_MAX_CHUNKS, _MAX_LENGTH = 8, 16 * 1024
_MAX_IDENTITY = 320  # the longest e-mail address: 64 characters, an at sign, 255 characters
_GRACE = 15  # seconds; what the libraries themselves allow between two clocks
_YEAR_10000 = 253_402_300_800  # an `exp` beyond it was not counted in seconds

# Long enough to pass for secrets, but printed in manuals and shipped with products.
_PUBLISHED_SECRETS = (
    "2gyZ3GDw3LHZQKDhPmPDL3sjREVRXPr8",
    "complex_password_at_least_32_characters_long",
    "do+UspMmB/rewbX2K/rskFmtgGSSZ8Ta",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "this-is-a-secret-value-with-at-least-32-characters",
)


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """Whom a session names, one way only: by lower-cased e-mail address, or else by our user id."""

    email: str | None = None
    user_id: str | None = None


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: Literal["dir"]
    enc: Literal["A256GCM", "A256CBC-HS512"]
    kid: str = ""
    typ: str = ""
    cty: str = ""


class _Claims(msgspec.Struct):
    exp: float
    iat: float = 0
    nbf: float = 0
    email: str | None = None
    sub: Any = None  # where there is an e-mail address, its type does not matter


class SessionReader:
    """Opens session cookies with one secret, or with several while secrets are being rotated.

    ConfigurationError for a secret that is too short or known to strangers (contract, section 4).
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        for secret in secrets or [""]:
            _check_secret(secret)
        self._v4_keys = _derive(secrets, "NextAuth.js Generated Encryption Key", "", 32)[""]
        v5_info = "Auth.js Generated Encryption Key ({})"
        self._v5_keys = {n: _derive(secrets, v5_info.format(n), n, 64) for n in _PRECEDENCE}

    def find_identity(self, cookies: Cookies, now: float) -> SessionIdentity | None:
        """Who is signed in at `now` (seconds since 1970); None if there is no session cookie.

        Unauthenticated if the one that counts is not good: no other is tried (contract, section 4).
        """
        name, parts = _choose(cookies)
        if not parts:
            return None
        try:
            return _identify(self._open(name, _join(parts)), now)
        except (JoseError, ValueError, RecursionError):
            # A stranger's bytes make base64, JSON, ciphers and paddings raise ValueError, too.
            raise Unauthenticated from None

    def _open(self, name: str, token: str) -> bytes:
        if len(token) > _MAX_LENGTH or not (match := _DIRECT_JWE.fullmatch(token)):
            raise ValueError("not a directly encrypted token")
        header = msgspec.json.decode(urlsafe_b64decode(match[1] + "=="), type=_Header)
        keys = self._v4_keys if name.endswith(_V4_NAME) else []
        if header.enc == "A256CBC-HS512":
            keys = self._v5_keys[name].get(header.kid, [])
        for key in keys:
            with suppress(DecodeError):  # perhaps the next key is the right one
                return jwe.decrypt_compact(token, key, registry=_ALGORITHMS).plaintext or b""
        raise ValueError("no key opens this token")


def _check_secret(secret: str) -> None:
    if len(secret) < 32:
        raise ConfigurationError("NEXTAUTH_SECRET must be at least 32 characters long.")
    is_repetition = secret in (secret + secret)[1:-1]
    if is_repetition or any(sample in secret for sample in _PUBLISHED_SECRETS):
        raise ConfigurationError("NEXTAUTH_SECRET must be random, but this one can be guessed.")


def _derive(secrets: Sequence[str], info: str, salt: str, size: int) -> dict[str, list[OctKey]]:
    keys: list[OctKey] = []
    for secret in secrets:
        hkdf = HKDF(SHA256(), size, salt.encode(), info.encode())
        keys.append(OctKey.import_key(hkdf.derive(secret.encode(errors="surrogateescape"))))
    # A token may name its key by the thumbprint; one that names none may have any of them.
    return {"": keys} | {thumbprint(key.as_dict(), "sha512"): [key] for key in keys}


def _choose(cookies: Cookies) -> tuple[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, value in cookies:
        if match := _COOKIE.fullmatch(name):
            found.setdefault(match[1], []).append((match[2] or "", value))
    return next(((name, found[name]) for name in _PRECEDENCE if name in found), ("", []))


def _join(parts: list[tuple[str, str]]) -> str:
    values = dict(parts)
    numbers = [""] if "" in values else [str(number) for number in range(len(parts))]
    if len(parts) > _MAX_CHUNKS or len(parts) != len(numbers) or values.keys() != set(numbers):
        raise ValueError("repeated, missing or too many chunks")
    return "".join(values[number] for number in numbers)


def _identify(payload: bytes, now: float) -> SessionIdentity:
    claims = msgspec.json.decode(payload, type=_Claims)
    if not now - _GRACE < claims.exp < _YEAR_10000 or max(claims.iat, claims.nbf) > now + _GRACE:
        raise ValueError("not valid at this time")
    name = claims.email or claims.sub
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_IDENTITY or not name.isprintable():
        raise ValueError("no identity")
    if not claims.email:
        return SessionIdentity(user_id=name)
    if name.lower().isascii() and not name.isascii():  # a Kelvin sign would turn into a k
        raise ValueError("another mailbox's address")
    return SessionIdentity(email=name.lower())
