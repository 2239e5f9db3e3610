"""Parse the reports of vulnerability scanners. formats.py has the table of supported formats."""

import codecs
import re

from msgspec import Raw, defstruct, field
from msgspec.json import Decoder

from harborguard.errors import InvalidReport, Issue, UnreadableReport
from harborguard.model import Reference, Report
from harborguard.reports.decoding import decode, require_version
from harborguard.reports.formats import FORMATS, ReportFormat

__all__ = ["parse_report"]

_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FIRST_CHARACTER = re.compile(rb"[^ \t\r\n]")

# The struct has a Raw field for each top-level field that the table names. Decoding it finds these
# fields in one pass and decodes none of their values.
_FIELD_NAMES = sorted({name for report_format in FORMATS for name in report_format.field_names})
_TOP_LEVEL = Decoder(
    defstruct(
        "_TopLevel",
        [
            (f"field_{number}", Raw, field(name=name, default=Raw()))
            for number, name in enumerate(_FIELD_NAMES)
        ],
    )
)


def parse_report(body: bytes, *, reference: Reference | None = None) -> Report:
    """Parse a scan report (JSON in UTF-8) in any supported format.

    `reference` is the image that the caller names; it overrides the report's own (contract 6).
    Raise UnreadableReport if the body is not JSON, InvalidReport if it is not a valid report.
    """
    if body.startswith(_BYTE_ORDER_MARKS):
        raise UnreadableReport(
            "The report begins with a byte order mark; write it as UTF-8 without one."
        )
    first = _FIRST_CHARACTER.search(body)
    if first is None:
        raise UnreadableReport("The report is empty.")
    fields = {} if first[0] == b"[" else _read_fields(body)
    report_format = _recognize(fields, is_array=first[0] == b"[")
    if report_format.version:
        name, expected = report_format.version
        require_version(fields[name], expected, name)
    return report_format.parse(body, reference)


def _read_fields(body: bytes) -> dict[str, Raw]:
    """Return the value of each field in `_FIELD_NAMES`; empty if the field is missing."""
    try:
        top_level = decode(body, _TOP_LEVEL)
    except InvalidReport as error:
        raise _unrecognized([]) from error
    return {name: getattr(top_level, f"field_{number}") for number, name in enumerate(_FIELD_NAMES)}


def _recognize(fields: dict[str, Raw], *, is_array: bool) -> ReportFormat:
    matching = [
        report_format
        for report_format in FORMATS
        if report_format.is_array == is_array and report_format.matches(fields)
    ]
    if len(matching) != 1:
        raise _unrecognized(matching)
    return matching[0]


def _unrecognized(matching: list[ReportFormat]) -> InvalidReport:
    names = ", ".join(report_format.description for report_format in FORMATS)
    message = f"matches {'more than one' if matching else 'none'} of the supported formats: {names}"
    return InvalidReport(f"The report {message}.", [Issue("$", message)])
