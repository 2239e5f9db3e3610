"""Which image a report is of, and from when it is."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from harborguard.errors import InvalidReference, InvalidReport, Issue
from harborguard.model import Reference
from harborguard.references import parse_digest, parse_reference
from harborguard.timestamps import parse_time

_FILE_NAMES = (".tar", ".tar.gz", ".tgz")
_MAX_ISSUES = 10


def require_image(artifact_type: str | None, expected: str, path: str) -> None:
    """Refuses (InvalidReport) a report that says it is of anything but a container image."""
    if artifact_type and artifact_type != expected:
        message = f"is {artifact_type[:40]!r}; only container images are recorded"
        raise InvalidReport("The report is not of a container image.", [Issue(path, message)])


def is_file_name(text: str) -> bool:
    """Whether this names an image archive on a disk, which says nothing about the image."""
    return text.endswith(_FILE_NAMES)


def choose_reference(
    given: Reference | None, candidates: Iterable[tuple[str, str | None]]
) -> Reference:
    """What the caller names; else the first candidate, (JSON path, text), that is well formed.

    Raises InvalidReport, with an issue for each malformed candidate and the way to name the image.
    """
    if given:
        return given
    issues: list[Issue] = []
    for path, text in candidates:
        try:
            if text:
                return _parse_told(text)
        except InvalidReference as error:
            issues.append(Issue(path, error.message))
    raise InvalidReport(
        "The report does not tell which image it is of; name it: --image REF on the command line, "
        "?image=REF over HTTP.",
        issues[:_MAX_ISSUES],
    )


def choose_digest(
    given: Reference | None, reference: Reference, told: Iterable[str | None]
) -> str | None:
    """The manifest digest of a report's image, or None (contract, section 6).

    The one in the caller's reference; else of those told (`name@sha256:…`) the one under the
    image's name, else the first; else the one in the report's own reference. A malformed digest
    is as good as none.
    """
    if given and given.digest:
        return given.digest
    digests = [(text, digest) for text in told if (digest := parse_digest(text))]
    for text, digest in digests:
        if text and _names(text, reference.name):
            return digest
    return digests[0][1] if digests else reference.digest


def read_time(text: str | None, path: str, *, is_zone_required: bool = False) -> datetime | None:
    """Return the time at a JSON path in UTC, or None if missing; raise InvalidReport."""
    try:
        return parse_time(text, is_zone_required=is_zone_required)
    except ValueError as error:
        message = "is not a time like 2026-04-26T14:22:11Z"
        issue = Issue(path, message)
        raise InvalidReport(f"The report has a malformed time: {path}.", [issue]) from error


def is_same_reference(one: str, other: str) -> bool:
    """Whether two texts name one image, tag and digest: `nginx` and `docker.io/nginx:latest`."""
    try:
        return one == other or parse_reference(one) == parse_reference(other)
    except InvalidReference:
        return False


def _parse_told(text: str) -> Reference:
    # A report's malformed digest is as good as none, and no reason to refuse it; but who names a
    # digest alone does not mean the tag `latest`.
    name, at, digest = text.rpartition("@")
    # Where a path follows, what stands before it is an account (`user:password@host/…`).
    if not at or "/" in digest or parse_digest(digest):
        return parse_reference(text)
    reference = parse_reference(name)
    is_tagged = ":" in name.rpartition("/")[2]
    return reference if is_tagged else replace(reference, tag=None)


def _names(text: str, name: str) -> bool:
    try:
        return parse_reference(text).name == name
    except InvalidReference:
        return False
