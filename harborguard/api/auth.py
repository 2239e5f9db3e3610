"""Authentication before every request to a resource, and the role that a view requires."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import structlog
from flask import Response, after_this_request, g, request

from harborguard.api.services import read, services
from harborguard.auth.credentials import parse_credential
from harborguard.errors import Forbidden, Unauthenticated
from harborguard.model import Actor, Principal, PrincipalKind, Role
from harborguard.observability import metrics
from harborguard.store.principals import find_principal, record_use

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_ACTOR_KINDS = {
    PrincipalKind.API_KEY: "apikey",
    PrincipalKind.ACCESS_TOKEN: "token",
    PrincipalKind.SESSION: "user",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """The roles that a view accepts, and whether it accepts only API keys.

    `name` is the minimum role, or the roles if they are no range. `sentence` says the same.
    """

    roles: tuple[Role, ...]
    name: str
    sentence: str
    api_key_only: bool = False


def authenticate() -> None:
    """Set `g.principal` to the request's principal; raise Unauthenticated if there is none.

    Raise RateLimited instead if the client's address has sent too many such requests. A valid
    credential is never limited, because many clients can have the same address.

    OPTIONS requests need no credential. They and malformed credentials need no connection.
    """
    if request.method == "OPTIONS":
        return
    try:
        g.principal = principal = _find_principal()
    except Unauthenticated as error:
        metrics.count_rejection(error.reason)
        g.rejection_reason = error.reason
        services().rejection_limit.consume(request.remote_addr or "")
        raise
    if principal.has_stale_last_use:
        _record_use_after_response(principal)


def _find_principal() -> Principal:
    credential = parse_credential(request.headers, _cookies(), services().sessions)
    principal = read(lambda conn: find_principal(conn, credential))
    if principal is None:
        raise Unauthenticated("unknown")
    return principal


def _cookies() -> Iterator[tuple[str, str]]:
    # A generator, so that cookies are parsed only if no header has a credential.
    yield from request.cookies.items(multi=True)


def current_actor() -> Actor:
    """Return the request's principal and client address, for the audit log (contract 8.6)."""
    principal: Principal = g.principal
    return Actor(f"{_ACTOR_KINDS[principal.kind]}:{principal.id}", request.remote_addr or None)


def require(
    role: Role, *, api_key_only: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a view that raises Forbidden if the principal's role is too low.

    With `api_key_only`, access tokens and sessions are rejected as well.
    """
    roles = tuple(each for each in Role if each.level >= role.level)
    sentence = f"The role {role.value} or higher is required."
    return _check(Requirement(roles, role.value, sentence, api_key_only))


def require_one_of(*roles: Role) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a view that raises Forbidden if the principal has another role.

    Unlike `require`, it also rejects higher roles that are not listed.
    """
    name = ", ".join(role.value for role in roles)
    return _check(Requirement(roles, name, f"One of the roles {name} is required."))


def _check(requirement: Requirement) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def checked_view(*args: P.args, **kwargs: P.kwargs) -> R:
            principal: Principal = g.principal
            if principal.role not in requirement.roles:
                raise Forbidden(requirement.sentence)
            if requirement.api_key_only and principal.kind is not PrincipalKind.API_KEY:
                raise Forbidden("An API key is required.")
            if principal.kind is PrincipalKind.SESSION and request.method not in _SAFE_METHODS:
                _reject_other_sites()
            return view(*args, **kwargs)

        vars(checked_view)["requirement"] = requirement
        return checked_view

    return decorate


def _reject_other_sites() -> None:
    """Raise Forbidden if a page of another origin sent the request (contract 4.5).

    Browsers add the session cookie to requests of any page, and Sec-Fetch-Site or Origin to those
    that change data. Other clients send neither header.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        is_same_origin = site in {"same-origin", "none"}
    else:
        # Without ports: nginx passes on the host alone.
        is_same_origin = origin is None or _host_of(origin) == _host_of(f"//{request.host}")
    if not is_same_origin:
        raise Forbidden("A session may change data only from a page of this service's own origin.")


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return None


def _record_use_after_response(principal: Principal) -> None:
    pool = services().pool

    def record() -> None:
        # The response is already sent, so an error can only be logged.
        try:
            with pool.connection(timeout=0.05) as conn:
                record_use(conn, principal)
        except Exception as error:
            log.warning("credential use not recorded", error=str(error))

    @after_this_request
    def record_on_close(response: Response) -> Response:
        response.call_on_close(record)
        return response
