"""Helpers for the tests of report formats."""

import json

import pytest

from harborguard.errors import InvalidReport
from harborguard.model import Reference, Report
from harborguard.reports import parse_report

DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64


def parse(document: object, reference: Reference | None = None) -> Report:
    """Parse a document as a report."""
    return parse_report(json.dumps(document).encode(), reference=reference)


def issues_of(document: object) -> list[tuple[str, str]]:
    """Return path and message of each issue of a document, which must be rejected."""
    with pytest.raises(InvalidReport) as caught:
        parse(document)
    return [(issue.path, issue.message) for issue in caught.value.issues]
