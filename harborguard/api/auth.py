"""Who is asking: the hook before each request of the API, and what a view demands."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

import structlog
from flask import Response, after_this_request, g, request

from harborguard.api.services import read, services
from harborguard.auth.credentials import parse_credential
from harborguard.errors import Forbidden, Unauthenticated
from harborguard.model import Principal, PrincipalKind, Role
from harborguard.observability import metrics
from harborguard.store.principals import find_principal, record_use

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()


def authenticate() -> None:
    """Finds the principal of the request, or refuses it.

    No connection is taken for a credential that cannot be one, and none for OPTIONS.
    """
    if request.method == "OPTIONS":
        return
    try:
        g.principal = principal = _find_principal()
    except Unauthenticated as error:
        metrics.count_refusal(error.reason)
        g.refused = error.reason
        raise
    if principal.is_use_due:
        _note_use_later(principal)


def _find_principal() -> Principal:
    credential = parse_credential(request.headers, _cookies(), services().sessions)
    principal = read(lambda conn: find_principal(conn, credential))
    if principal is None:
        raise Unauthenticated("unknown")
    return principal


def _cookies() -> Iterator[tuple[str, str]]:
    # Parsed only for who looks at them.
    yield from request.cookies.items(multi=True)


def require(
    role: Role, *, api_key_only: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The least role a view asks for, and whether people may not; others get Forbidden."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            principal: Principal = g.principal
            held = principal.role
            if held is None or held.level < role.level:
                raise Forbidden(f"This needs the role {role.value} or a higher one.")
            if api_key_only and principal.kind is not PrincipalKind.API_KEY:
                raise Forbidden("This needs an API key.")
            return view(*args, **kwargs)

        return guarded

    return decorate


def _note_use_later(principal: Principal) -> None:
    pool = services().pool

    def note() -> None:
        # The answer is out already: whatever goes wrong here may only be told to the log.
        try:
            with pool.connection(timeout=0.05) as conn:
                record_use(conn, principal)
        except Exception as error:
            log.warning("use of a credential was not noted", error=str(error))

    @after_this_request
    def note_after_sending(response: Response) -> Response:
        response.call_on_close(note)
        return response
