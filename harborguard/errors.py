"""What can go wrong, in the words of the contract's error table; HTTP statuses are api/errors.py's.

The docstring of a class is its default message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getdoc


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with one named field: `path` is the parameter or the JSON path."""

    path: str
    message: str


class HarborGuardError(Exception):
    """Something went wrong."""

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
    """The report is not one that can be recorded."""

    code = "VALIDATION_ERROR"


class Unauthenticated(HarborGuardError):
    """A valid API key, personal access token or session is required."""

    code = "UNAUTHORIZED"

    def __init__(self, reason: str = "malformed") -> None:
        # missing, malformed or unknown: for the operator, the caller never learns it
        super().__init__()
        self.reason = reason


class Forbidden(HarborGuardError):
    """The credential's role does not allow this."""

    code = "FORBIDDEN"


class NotFound(HarborGuardError):
    """There is no such thing here."""

    code = "NOT_FOUND"


class Conflict(HarborGuardError):
    """This contradicts something that is recorded already."""

    code = "CONFLICT"

    def __init__(self, message: str | None = None, *, scan_id: str | None = None) -> None:
        super().__init__(message)
        self.scan_id = scan_id


class PayloadTooLarge(HarborGuardError):
    """The body is too large."""

    code = "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(HarborGuardError):
    """The body is of a kind that is not read here."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class RateLimited(HarborGuardError):
    """Too many requests; `retry_after` is in seconds."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnavailable(HarborGuardError):
    """The database cannot be reached; try again shortly."""

    code = "SERVICE_UNAVAILABLE"


class StatementTimeout(HarborGuardError):
    """The database took too long to answer."""

    code = "TIMEOUT"


class ConfigurationError(HarborGuardError):
    """The configuration cannot be used."""


class RegistryError(HarborGuardError):
    """The registry did not answer as a registry should."""


class RegistryUnavailable(RegistryError):
    """The registry is silent, overloaded or broken; try again later."""


class SchemaMismatch(HarborGuardError):
    """The database's schema is not the one this release needs."""
