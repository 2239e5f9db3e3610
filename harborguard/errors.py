"""The project's exceptions, each with a code of the contract's error table (contract 3).

The docstring of a class is its default message and can appear in responses.
harborguard/api/errors.py maps the codes to HTTP statuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getdoc


@dataclass(frozen=True, slots=True)
class Issue:
    """An error in one value. `path` is a query parameter's name or a JSON path, as in `scan.id`."""

    path: str
    message: str


class HarborGuardError(Exception):
    """An internal error occurred."""

    code = "INTERNAL_ERROR"

    def __init__(self, message: str | None = None, issues: Sequence[Issue] = ()) -> None:
        self.message = message or getdoc(type(self)) or type(self).__name__
        self.issues = tuple(issues)
        super().__init__(self.message)


class InvalidRequest(HarborGuardError):
    """The request is malformed."""

    code = "BAD_REQUEST"


class InvalidReference(InvalidRequest):
    """The image reference is malformed."""


class UnreadableReport(InvalidRequest):
    """The report is not a JSON document."""


class InvalidReport(HarborGuardError):
    """The report is invalid."""

    code = "VALIDATION_ERROR"


class Unauthenticated(HarborGuardError):
    """A valid API key, personal access token or session is required."""

    code = "UNAUTHORIZED"

    def __init__(self, reason: str = "malformed") -> None:
        # "missing", "malformed" or "unknown". It is logged; no response contains it, because all
        # causes have the same response (contract 3).
        super().__init__()
        self.reason = reason


class Forbidden(HarborGuardError):
    """The credential's role does not permit this request."""

    code = "FORBIDDEN"


class NotFound(HarborGuardError):
    """Not found."""

    code = "NOT_FOUND"


class Conflict(HarborGuardError):
    """The request conflicts with an existing resource."""

    code = "CONFLICT"

    def __init__(self, message: str | None = None, *, scan_id: str | None = None) -> None:
        super().__init__(message)
        self.scan_id = scan_id


class Gone(HarborGuardError):
    """The requested data was deleted."""

    code = "GONE"


class PayloadTooLarge(HarborGuardError):
    """The body is too large."""

    code = "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(HarborGuardError):
    """The media type of the body is not supported."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class RateLimited(HarborGuardError):
    """Too many requests."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class StoreUnavailable(HarborGuardError):
    """The database is not available; try again shortly."""

    code = "SERVICE_UNAVAILABLE"


class StatementTimeout(HarborGuardError):
    """The database took too long to respond."""

    code = "TIMEOUT"


class ConfigurationError(HarborGuardError):
    """The configuration is invalid."""


class RegistryError(HarborGuardError):
    """The request to the registry failed."""


class RegistryDenied(RegistryError):
    """The registry denies access."""


class RegistryUnavailable(RegistryError):
    """The registry is unavailable; try again later."""


class SchemaMismatch(HarborGuardError):
    """The database schema does not match this release."""
