"""Decrypt and validate the session cookies of NextAuth v4 and Auth.js v5 (contract 4)."""

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

# All (name, value) pairs of a request, repeated names included.
Cookies = Iterable[tuple[str, str]]

_V4_NAME, _V5_NAME = "next-auth.session-token", "authjs.session-token"
_PRECEDENCE = [
    prefix + name for prefix in ("__Secure-", "__Host-", "") for name in (_V5_NAME, _V4_NAME)
]
# Only whole names match. NextAuth itself accepts every cookie whose name has this prefix.
_COOKIE = re.compile(rf"({'|'.join(map(re.escape, _PRECEDENCE))})(?:\.([0-9]+))?")
_DIRECT_JWE = re.compile(r"([A-Za-z0-9_-]+)\.(?:\.[A-Za-z0-9_-]+){3}")
_ALGORITHMS = jwe.JWERegistry(algorithms=("dir", "A256GCM", "A256CBC-HS512"))
_MAX_CHUNKS, _MAX_LENGTH = 8, 16 * 1024
_MAX_IDENTITY_LENGTH = 320  # of an e-mail address: 64 characters, "@", 255 characters
_CLOCK_TOLERANCE = 15  # seconds, as in NextAuth and Auth.js
_YEAR_10000 = 253_402_300_800  # an `exp` beyond this is not in seconds

# These are long enough, but manuals publish them as examples or products use them as defaults.
_PUBLISHED_SECRETS = (
    "2gyZ3GDw3LHZQKDhPmPDL3sjREVRXPr8",
    "complex_password_at_least_32_characters_long",
    "do+UspMmB/rewbX2K/rskFmtgGSSZ8Ta",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "this-is-a-secret-value-with-at-least-32-characters",
)


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """The user of a session: either a lower-cased e-mail address or a user id."""

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
    sub: Any = None  # of any type, because it is ignored if there is an e-mail address


class SessionReader:
    """Decrypt session cookies. Several secrets are accepted, so that a secret can be rotated.

    Raise ConfigurationError if a secret is shorter than 32 characters, published or repetitive.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        for secret in secrets or [""]:
            _check_secret(secret)
        # Tokens of next-auth 4 name no key, so all keys are tried.
        self._v4_keys = _derive(secrets, "NextAuth.js Generated Encryption Key", "", 32)[""]
        v5_info = "Auth.js Generated Encryption Key ({})"
        self._v5_keys = {
            name: _derive(secrets, v5_info.format(name), name, 64) for name in _PRECEDENCE
        }

    def find_identity(self, cookies: Cookies, now: float) -> SessionIdentity | None:
        """Return the user of the session at `now` (Unix seconds), or None without a session cookie.

        Raise Unauthenticated if the session cookie with the highest precedence is not valid; the
        others are not tried (contract 4).
        """
        name, chunks = _find_session_cookie(cookies)
        if not chunks:
            return None
        try:
            return _parse_claims(self._decrypt(name, _join(chunks)), now)
        except (JoseError, ValueError, RecursionError):
            # base64, msgspec and cryptography raise ValueError for malformed input.
            raise Unauthenticated from None

    def _decrypt(self, name: str, token: str) -> bytes:
        if len(token) > _MAX_LENGTH or not (match := _DIRECT_JWE.fullmatch(token)):
            raise ValueError("not a directly encrypted token")
        header = msgspec.json.decode(urlsafe_b64decode(match[1] + "=="), type=_Header)
        keys = self._v4_keys if name.endswith(_V4_NAME) else []
        if header.enc == "A256CBC-HS512":
            keys = self._v5_keys[name].get(header.kid, [])
        for key in keys:
            with suppress(DecodeError):  # wrong key: try the next one
                return jwe.decrypt_compact(token, key, registry=_ALGORITHMS).plaintext or b""
        raise ValueError("no key decrypts this token")


def _check_secret(secret: str) -> None:
    if len(secret) < 32:
        raise ConfigurationError("NEXTAUTH_SECRET must be at least 32 characters long.")
    is_repetition = secret in (secret + secret)[1:-1]
    if is_repetition or any(published in secret for published in _PUBLISHED_SECRETS):
        raise ConfigurationError(
            "NEXTAUTH_SECRET must be random; this value is published or repetitive. "
            "Generate one with: openssl rand -base64 32"
        )


def _derive(secrets: Sequence[str], info: str, salt: str, size: int) -> dict[str, list[OctKey]]:
    """Return the keys by thumbprint, and all of them under ""."""
    keys: list[OctKey] = []
    for secret in secrets:
        hkdf = HKDF(SHA256(), size, salt.encode(), info.encode())
        keys.append(OctKey.import_key(hkdf.derive(secret.encode(errors="surrogateescape"))))
    # A token selects its key by thumbprint (`kid`). Without a `kid`, every key is tried.
    return {"": keys} | {thumbprint(key.as_dict(), "sha512"): [key] for key in keys}


def _find_session_cookie(cookies: Cookies) -> tuple[str, list[tuple[str, str]]]:
    """Return the cookie name with the highest precedence and its (chunk number, value) pairs."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, value in cookies:
        if match := _COOKIE.fullmatch(name):
            found.setdefault(match[1], []).append((match[2] or "", value))
    return next(((name, found[name]) for name in _PRECEDENCE if name in found), ("", []))


def _join(chunks: list[tuple[str, str]]) -> str:
    values = dict(chunks)
    numbers = [""] if "" in values else [str(number) for number in range(len(chunks))]
    if len(chunks) > _MAX_CHUNKS or len(chunks) != len(numbers) or values.keys() != set(numbers):
        raise ValueError("repeated, missing or too many chunks")
    return "".join(values[number] for number in numbers)


def _parse_claims(payload: bytes, now: float) -> SessionIdentity:
    claims = msgspec.json.decode(payload, type=_Claims)
    if not now - _CLOCK_TOLERANCE < claims.exp < _YEAR_10000:
        raise ValueError("expired")
    if max(claims.iat, claims.nbf) > now + _CLOCK_TOLERANCE:
        raise ValueError("not valid yet")
    identity = claims.email or claims.sub
    if not isinstance(identity, str) or not 0 < len(identity) <= _MAX_IDENTITY_LENGTH:
        raise ValueError("no identity")
    if not identity.isprintable():
        raise ValueError("unprintable characters in the identity")
    if not claims.email:
        return SessionIdentity(user_id=identity)
    email = identity.lower()
    # The Kelvin sign, for example, becomes "k": the address of a different mailbox.
    if email.isascii() and not identity.isascii():
        raise ValueError("lower case changes the address")
    return SessionIdentity(email=email)
