"""The table of report formats: names, fields, versions and schemas agree with the parsers."""

import json

import jsonschema_rs
import pytest
from prometheus_client import REGISTRY

from harborguard.errors import InvalidReport
from harborguard.model import Reference
from harborguard.observability import metrics
from harborguard.reports import parse_report
from harborguard.reports.formats import EXAMPLE, FORMATS, REPORT_SCHEMA, ReportFormat
from tests.support import reports
from tests.support.report_documents import issues_of

OVERRIDE = Reference("quay.io", "acme/tool", "7")
BODIES = {
    "HarborGuard sensor envelope 1.0": reports.envelope(counts=(1, 2)),
    "Trivy JSON (schema 2)": reports.trivy(counts=(1, 2)),
    "Grype JSON": reports.grype(counts=(1, 2)),
    "Trivy result list": json.dumps(
        json.loads(reports.trivy(counts=(1, 2)))["Results"],
    ).encode(),
}


def test_every_format_has_a_sample_report() -> None:
    assert [report_format.name for report_format in FORMATS] == [
        "HarborGuard sensor envelope 1.0",
        "Trivy JSON (schema 2)",
        "Grype JSON",
        "Trivy result list",
    ]
    assert set(BODIES) == {report_format.name for report_format in FORMATS}


@pytest.mark.parametrize("report_format", FORMATS, ids=lambda row: row.name)
def test_sample_report_is_parsed_by_its_format(report_format: ReportFormat) -> None:
    body = BODIES[report_format.name]
    expected = report_format.parse(body, OVERRIDE)
    assert parse_report(body, reference=OVERRIDE) == expected
    assert len(expected.findings) == 3


@pytest.mark.parametrize("report_format", FORMATS, ids=lambda row: row.name)
def test_scanner_of_the_format_is_a_label_of_the_metric(report_format: ReportFormat) -> None:
    def count(scanner: str) -> float:
        labels = {"scanner": scanner, "outcome": "new"}
        return REGISTRY.get_sample_value("harborguard_uploads_total", labels) or 0

    [scanner] = report_format.parse(BODIES[report_format.name], OVERRIDE).scanners
    before = count(scanner)
    metrics.count_upload([scanner], "new")
    assert count(scanner) == before + 1


@pytest.mark.parametrize("report_format", FORMATS, ids=lambda row: row.name)
def test_sample_report_is_valid_in_its_schema_only(report_format: ReportFormat) -> None:
    document = json.loads(BODIES[report_format.name])
    valid = [row.name for row in FORMATS if jsonschema_rs.is_valid(row.schema, document)]
    assert valid == [report_format.name]
    assert jsonschema_rs.is_valid(REPORT_SCHEMA, document)


@pytest.mark.parametrize(
    ("name", "field"), [("Trivy JSON (schema 2)", "ArtifactName"), ("Grype JSON", "matches")]
)
def test_null_field_is_accepted_by_parser_and_schema(name: str, field: str) -> None:
    [report_format] = [row for row in FORMATS if row.name == name]
    document = {**json.loads(BODIES[name]), field: None}
    assert jsonschema_rs.is_valid(report_format.schema, document)
    report_format.parse(json.dumps(document).encode(), OVERRIDE)


@pytest.mark.parametrize("report_format", FORMATS, ids=lambda row: row.name)
def test_schema_requires_the_supported_version(report_format: ReportFormat) -> None:
    if report_format.version:
        field, value = report_format.version
        assert field in report_format.schema["required"]
        assert json.dumps(report_format.schema["properties"][field]["const"]) == value


@pytest.mark.parametrize("report_format", FORMATS, ids=lambda row: row.name)
def test_each_set_of_identifying_fields_alone_recognizes_the_format(
    report_format: ReportFormat,
) -> None:
    for names in report_format.identifying_fields or ():
        [(path, _)] = issues_of(dict.fromkeys(names, 0))
        assert path != "$", "an unrecognized document has the issue at the root"


def test_report_schema_lists_every_format_by_name() -> None:
    assert [schema["title"] for schema in REPORT_SCHEMA["anyOf"]] == [row.name for row in FORMATS]


def test_example_is_valid_and_gives_a_finding() -> None:
    assert jsonschema_rs.is_valid(REPORT_SCHEMA, EXAMPLE)
    assert len(parse_report(json.dumps(EXAMPLE).encode()).findings) == 1


@pytest.mark.parametrize("report_format", FORMATS, ids=lambda row: row.name)
def test_format_without_image_is_rejected_unless_caller_names_it(
    report_format: ReportFormat,
) -> None:
    body = BODIES[report_format.name]
    if report_format.requirement:
        with pytest.raises(InvalidReport, match="The report does not name its image"):
            parse_report(body)
    else:
        assert parse_report(body).reference.name == "ghcr.io/acme/api"
