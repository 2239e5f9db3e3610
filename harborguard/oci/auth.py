"""Who is asking: the answer to a registry's challenge, Basic or Bearer."""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from harborguard.errors import RegistryError
from harborguard.oci.documents import Token, decode
from harborguard.oci.transport import HttpResponse, Transport, origin, resolve

_SCHEME = re.compile(r"\b(bearer|basic)\s+(?=\w+=)", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s",]+))')
_TOKEN = re.compile(r"[!-~]{1,16384}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password or token, for one registry."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """As Basic authentication writes them (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {b64encode(pair).decode()}"


class Authenticator:
    """Answers a registry's challenges, and keeps the answers: one for each scope.

    Nothing is told before it is asked for. Credentials go to the registry and to its token
    service, and only where that is of the registry's own domain.
    """

    def __init__(self, transport: Transport, home: str, credentials: Credentials | None) -> None:
        self._transport = transport
        self._home = home
        self._credentials = credentials
        self._answers: dict[str, str] = {}

    def headers(self, scope: str) -> dict[str, str]:
        """What to send along; nothing for a scope whose challenge is not known yet."""
        answer = self._answers.get(scope)
        return {"Authorization": answer} if answer else {}

    def handle_challenge(self, scope: str, refusal: HttpResponse) -> None:
        """Takes up the challenge of a 401; RegistryError where that is not possible."""
        challenges = parse_challenges(refusal.headers.get("www-authenticate", ""))
        if "bearer" in challenges:
            token = self._fetch_token(refusal.url, challenges["bearer"])
            self._answers[scope] = f"Bearer {token}"
        elif "basic" in challenges and self._credentials:
            self._answers[scope] = self._credentials.header
        else:
            raise RegistryError("it wants a user name and a password")

    def _fetch_token(self, url: str, challenge: dict[str, str]) -> str:
        """Asks the challenge's realm for a token (the registry token specification)."""
        realm = resolve(url, challenge.get("realm", ""))
        headers = {}
        if self._credentials:
            self._check_realm(origin(realm).host)
            headers["Authorization"] = self._credentials.header
        answer = self._transport.fetch("GET", _with_query(realm, challenge), headers)
        if answer.status != 200:
            raise RegistryError(f"its token service answered {answer.status}")
        token = decode(answer.body, Token)
        text = token.token or token.access_token
        if not _TOKEN.fullmatch(text):
            raise RegistryError("its token service answered without a token")
        return text

    def _check_realm(self, host: str) -> None:
        parent = self._home.partition(".")[2]
        is_own = host == self._home or host.endswith(f".{self._home}")
        is_sibling = "." in parent and not _is_address(self._home)
        if not (is_own or (is_sibling and (host == parent or host.endswith(f".{parent}")))):
            raise RegistryError(
                f"its token service is {host}, of another domain; credentials are not sent there"
            )


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """A WWW-Authenticate header's Basic and Bearer challenges: parameters by scheme."""
    _, *parts = _SCHEME.split(header)
    return {
        scheme.lower(): {
            name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(told)
        }
        for scheme, told in zip(parts[::2], parts[1::2], strict=True)
    }


def _with_query(realm: str, challenge: dict[str, str]) -> str:
    parts = urlsplit(realm)
    asked = [(name, challenge[name]) for name in ("service", "scope") if name in challenge]
    query = urlencode([*parse_qsl(parts.query), *asked])
    return urlunsplit(parts._replace(query=query, fragment=""))


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()
