"""Select a report's image reference, manifest digest and times."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from harborguard.errors import InvalidReference, InvalidReport, Issue
from harborguard.model import Reference
from harborguard.references import (
    is_file_name,
    is_short_name,
    make_image_id_error,
    parse_digest,
    parse_reference,
)
from harborguard.timestamps import parse_time

# How a caller names the image of a report.
IMAGE_OPTIONS = "--image REF on the command line or ?image=REF over HTTP"
_MAX_ISSUES = 10
_SHORT_ID = re.compile(r"library/([0-9a-f]{4,})")
# A listed name of one part, such as `podman:stable`. Lists have no schemes.
_ONE_PART = re.compile(r"(?!sha(?:256|512):)[^:/@]+:[^:/@]+")


def _reject_name(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class ReportedNames:
    """What a report contains about the name of its image.

    `scanned` is the text that the scanner was given, at the JSON path `scanned_path`. It is a name,
    an image id, or a path that may look like a name. `tags` are names that a daemon, a registry or
    an archive has for the image, each as a JSON path and a text. `digests` are `name@sha256:…`, and
    `image_ids` are ids of the image.

    `accepts_unlisted` returns whether a scanned text without a registry's host, like `acme/api:1`,
    is a name, and not a path, even if no tag and no digest lists it.
    """

    scanned_path: str
    scanned: str | None
    tags: Sequence[tuple[str, str]] = ()
    digests: Sequence[str | None] = ()
    image_ids: Sequence[str | None] = ()
    accepts_unlisted: Callable[[str], bool] = _reject_name


def check_artifact_type(
    artifact_type: str | None,
    path: str,
    *,
    image_type: str,
    unknown_types: Collection[str],
    override: Reference | None,
) -> None:
    """Raise InvalidReport unless the artifact type at a JSON path is that of an image, or missing.

    A report of one of `unknown_types`, such as a scan of an SBOM, does not contain a name. It is
    accepted if the caller names the image in `override`.
    """
    if not artifact_type or artifact_type == image_type:
        return
    shown = repr(artifact_type[:40])
    if artifact_type not in unknown_types:
        raise InvalidReport(
            "The report does not describe a container image.",
            [Issue(path, f"is {shown}, but only reports of container images are accepted")],
        )
    if override is None:
        raise _make_missing_name_error([Issue(path, f"is {shown}, which does not name an image")])


def select_reference(override: Reference | None, names: ReportedNames) -> Reference:
    """Return `override`, the caller's reference, else the scanned name, else the first tag.

    A scanned name with only a digest gets the first reported tag of the same name. Raise
    InvalidReport, with an issue for each text that is not a name, if there is no name.
    """
    if override:
        return override
    tags, tag_issues = _parse_tags(names.tags)
    issues: list[Issue] = []
    try:
        if names.scanned:
            return _add_tag(_parse_scanned(names.scanned, names, tags), tags)
    except InvalidReference as error:
        issues.append(_make_issue(names.scanned_path, error))
    if tags:
        return tags[0]
    raise _make_missing_name_error([*issues, *tag_issues])


def select_digest(reference: Reference, names: ReportedNames) -> str | None:
    """Return the manifest digest of a report's image, or None if it is unknown (contract 6.3).

    `reference` is the result of `select_reference`. The digest comes from the first of these that
    has one: the reference, the scanned name if it has the reference's name, a reported
    `name@sha256:…` with this name, and any reported digest. Malformed digests are ignored.
    """
    if reference.digest:
        return reference.digest
    for text in (names.scanned, *names.digests):
        if (digest := parse_digest(text)) and find_name(text) == reference.name:
            return digest
    return next(filter(None, map(parse_digest, names.digests)), None)


def find_name(text: str | None) -> str | None:
    """Return the name of an image that a report lists; None if it is missing or malformed."""
    try:
        return _parse_listed(text).name if text else None
    except InvalidReference:
        return None


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


def _parse_tags(tags: Sequence[tuple[str, str]]) -> tuple[list[Reference], list[Issue]]:
    references: list[Reference] = []
    issues: list[Issue] = []
    for path, text in tags:
        try:
            references.append(_parse_listed(text))
        except InvalidReference as error:
            issues.append(_make_issue(path, error))
    return references, issues


def _parse_scanned(text: str, names: ReportedNames, tags: list[Reference]) -> Reference:
    """Return the reference in a scanned text; raise InvalidReference for an id or a path."""
    # `ghcr.io/acme/api:rel.zip` has a host and a tag. `build.d/api.tar` may be a path.
    has_tag = ":" in text.rpartition("/")[2]
    if is_file_name(text) and (is_short_name(text) or not has_tag):
        raise _make_path_error("is the name of a file")
    is_listed = any(text == tag for _, tag in names.tags)
    reference = _parse_listed(text) if is_listed else _parse_reported_reference(text)
    if _is_image_id(reference, names.image_ids):
        raise make_image_id_error()
    if "@" in text or not is_short_name(text) or names.accepts_unlisted(text):
        return reference
    listed = {tag.name for tag in tags} | {find_name(digest) for digest in names.digests}
    if reference.name in listed:
        return reference
    raise _make_path_error("may be a path: the report does not list this name of the image")


def _is_image_id(reference: Reference, image_ids: Sequence[str | None]) -> bool:
    """Return whether a reference is the beginning of one of the image's ids."""
    match = _SHORT_ID.fullmatch(reference.repository)
    ids = [image_id.rpartition(":")[2] for image_id in image_ids if image_id]
    return match is not None and any(image_id.startswith(match[1]) for image_id in ids)


def _add_tag(reference: Reference, tags: list[Reference]) -> Reference:
    if reference.tag:
        return reference
    matching = (tag.tag for tag in tags if tag.name == reference.name and tag.tag)
    return replace(reference, tag=next(matching, None))


def _parse_listed(text: str) -> Reference:
    # A name with its host is not parsed as a scheme.
    is_one_part = _ONE_PART.fullmatch(text)
    return _parse_reported_reference(f"docker.io/library/{text}" if is_one_part else text)


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


def _make_path_error(reason: str) -> InvalidReference:
    return InvalidReference(f"The image reference {reason}.", [Issue("image", reason)])


def _make_issue(path: str, error: InvalidReference) -> Issue:
    return Issue(path, error.message)


def _make_missing_name_error(issues: list[Issue]) -> InvalidReport:
    return InvalidReport(
        f"The report does not name its image. Name it with {IMAGE_OPTIONS}.",
        issues[:_MAX_ISSUES],
    )
