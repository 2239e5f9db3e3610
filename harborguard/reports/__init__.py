"""A scanner's document, whatever the scanner, as a Report."""

import codecs
import re

from msgspec import Raw, Struct, field
from msgspec.json import Decoder

from harborguard.errors import InvalidReport, Issue, UnreadableReport
from harborguard.model import Reference, Report
from harborguard.reports.decoding import decode, require_version
from harborguard.reports.envelope import parse_envelope
from harborguard.reports.grype import parse_grype
from harborguard.reports.trivy import parse_trivy, parse_trivy_results

__all__ = ["parse_report"]

_FORMATS = "the HarborGuard sensor's envelope 1.0, Trivy JSON and Grype JSON"
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_START = re.compile(rb"[^ \t\r\n]")


class _Marks(Struct):
    """The fields that tell the formats apart; a view of each, nothing is decoded."""

    schema_version: Raw = field(name="SchemaVersion", default=Raw())
    artifact_name: Raw = field(name="ArtifactName", default=Raw())
    matches: Raw = Raw()
    version: Raw = Raw()
    image: Raw = Raw()
    scan: Raw = Raw()
    findings: Raw = Raw()


_MARKS = Decoder(_Marks)


def parse_report(body: bytes, *, reference: Reference | None = None) -> Report:
    """A scanner's report (JSON bytes in UTF-8) as a Report; `reference` is the caller's word.

    Formats: the sensor's envelope 1.0, Trivy JSON (schema 2, and the old bare list where
    `reference` is given), Grype JSON. For any bytes it returns or raises UnreadableReport (no
    JSON) or InvalidReport (contract, section 6).
    """
    if body.startswith(_BYTE_ORDER_MARKS):
        raise UnreadableReport(
            "The report begins with a byte order mark; write it as UTF-8 without one."
        )
    start = _START.search(body)
    if start is None:
        raise UnreadableReport("The report is empty.")
    if start[0] == b"[":
        return parse_trivy_results(body, reference)
    return _parse_object(body, reference)


def _parse_object(body: bytes, reference: Reference | None) -> Report:
    marks = _read_marks(body)
    is_trivy = bool(marks.schema_version or marks.artifact_name)
    is_grype = bool(marks.matches)
    is_envelope = bool(marks.scan or marks.findings or (marks.version and marks.image))
    if is_trivy + is_grype + is_envelope != 1:
        which = "more than one" if is_trivy or is_grype or is_envelope else "none"
        raise _unknown(which)
    if is_trivy:
        require_version(marks.schema_version, "2", "SchemaVersion")
        return parse_trivy(body, reference)
    if is_grype:
        return parse_grype(body, reference)
    require_version(marks.version, '"1.0"', "version")
    return parse_envelope(body, reference)


def _read_marks(body: bytes) -> _Marks:
    try:
        return decode(body, _MARKS)
    except InvalidReport as error:
        raise _unknown("none") from error


def _unknown(which: str) -> InvalidReport:
    message = f"looks like {which} of {_FORMATS}"
    return InvalidReport(f"The report {message}.", [Issue("$", message)])
