"""Select a report's image reference, manifest digest and times."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from harborguard.errors import InvalidReference, InvalidReport, Issue
from harborguard.model import Reference
from harborguard.references import parse_digest, parse_reference
from harborguard.timestamps import parse_time

# How a caller names the image of a report.
IMAGE_OPTIONS = "--image REF on the command line or ?image=REF over HTTP"
_ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAX_ISSUES = 10


def require_container_image(artifact_type: str | None, expected: str, path: str) -> None:
    """Raise InvalidReport if the report's artifact type is present and is not `expected`."""
    if artifact_type and artifact_type != expected:
        message = f"is {artifact_type[:40]!r}, but only reports of container images are accepted"
        raise InvalidReport(
            "The report does not describe a container image.", [Issue(path, message)]
        )


def is_archive_name(text: str) -> bool:
    """Return whether the text is the file name of an image archive, not an image reference."""
    return text.endswith(_ARCHIVE_SUFFIXES)


def select_reference(
    override: Reference | None, candidates: Iterable[tuple[str, str | None]]
) -> Reference:
    """Return `override`, the caller's reference, else the first well-formed candidate.

    A candidate is a JSON path and its text. Raise InvalidReport, with an issue for each malformed
    candidate, if there is none.
    """
    if override:
        return override
    issues: list[Issue] = []
    for path, text in candidates:
        try:
            if text:
                return _parse_reported_reference(text)
        except InvalidReference as error:
            issues.append(Issue(path, error.message))
    raise InvalidReport(
        f"The report does not name its image. Name it with {IMAGE_OPTIONS}.",
        issues[:_MAX_ISSUES],
    )


def select_digest(
    override: Reference | None, reference: Reference, reported: Iterable[str | None]
) -> str | None:
    """Return the manifest digest of a report's image, or None if it is unknown (contract 6).

    It comes from the first of these that has one: the caller's reference, a reported
    `name@sha256:…` with the image's name, any reported digest, and the report's own reference.
    Malformed digests are ignored.
    """
    if override and override.digest:
        return override.digest
    digests = [(text, digest) for text in reported if (digest := parse_digest(text))]
    for text, digest in digests:
        if text and _has_name(text, reference.name):
            return digest
    return digests[0][1] if digests else reference.digest


def parse_report_time(
    text: str | None, path: str, *, is_zone_required: bool = False
) -> datetime | None:
    """Return the time at a JSON path in UTC; None if it is missing. Raise InvalidReport."""
    try:
        return parse_time(text, is_zone_required=is_zone_required)
    except ValueError as error:
        message = "is not a time like 2026-04-26T14:22:11Z"
        issue = Issue(path, message)
        raise InvalidReport(f"The report has a malformed time: {path}.", [issue]) from error


def is_same_reference(first: str, second: str) -> bool:
    """Return whether two texts are the same reference: `nginx` and `docker.io/nginx:latest`."""
    try:
        return first == second or parse_reference(first) == parse_reference(second)
    except InvalidReference:
        return False


def _parse_reported_reference(text: str) -> Reference:
    # A malformed digest in a report is ignored. Without a tag, the remaining name does not get the
    # default tag `latest`, because the report names the image by digest.
    name, at, digest = text.rpartition("@")
    # If a path follows the "@", the text before it is an account (`user:password@host/…`).
    if not at or "/" in digest or parse_digest(digest):
        return parse_reference(text)
    reference = parse_reference(name)
    is_tagged = ":" in name.rpartition("/")[2]
    return reference if is_tagged else replace(reference, tag=None)


def _has_name(text: str, name: str) -> bool:
    try:
        return parse_reference(text).name == name
    except InvalidReference:
        return False
