"""Parsing a report: format recognition, limits, and robustness against arbitrary bytes."""

import copy
import json
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harborguard.errors import InvalidReport, UnreadableReport
from harborguard.model import Reference, Report, Severity
from harborguard.reports import parse_report
from harborguard.reports.decoding import MAX_ENTRIES
from harborguard.reports.formats import FORMATS
from harborguard.risk import count_severities, grade, risk_score

DIGEST = "sha256:" + "a" * 64
OVERRIDE = Reference("quay.io", "acme/tool", "7")

TRIVY: dict[str, Any] = {
    "SchemaVersion": 2,
    "CreatedAt": "2026-04-26T14:22:11.000000001Z",
    "ArtifactName": "nginx:1",
    "ArtifactType": "container_image",
    "Metadata": {
        "RepoTags": ["nginx:1"],
        "RepoDigests": [f"nginx@{DIGEST}"],
        "ImageConfig": {"created": "2026-04-01T10:00:00Z"},
    },
    "Results": [
        {
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-1",
                    "PkgName": "a",
                    "InstalledVersion": "1",
                    "FixedVersion": "2",
                    "Severity": "HIGH",
                    "SeveritySource": "nvd",
                    "Title": "t",
                    "PrimaryURL": "u",
                    "CVSS": {"nvd": {"V2Score": 5, "V3Score": 7.5, "V40Score": 8}},
                }
            ]
        }
    ],
}
GRYPE: dict[str, Any] = {
    "matches": [
        {
            "vulnerability": {
                "id": "CVE-2",
                "dataSource": "u",
                "severity": "Low",
                "cvss": [{"version": "3.1", "metrics": {"baseScore": 5.3}}],
                "fix": {"versions": ["2"]},
            },
            "artifact": {"name": "b", "version": "1"},
        }
    ],
    "source": {
        "type": "image",
        "target": {
            "userInput": "nginx:1",
            "tags": ["nginx:1"],
            "repoDigests": [f"nginx@{DIGEST}"],
            "config": "eyJjcmVhdGVkIjoiMjAyNi0wNC0wMVQxMDowMDowMFoifQ==",
        },
    },
    "descriptor": {"timestamp": "2026-04-26T14:22:11Z"},
}
ENVELOPE: dict[str, Any] = {
    "version": "1.0",
    "sensor": {"scannerVersions": {"trivy": "1"}},
    "image": {"ref": "nginx:1", "digest": DIGEST},
    "scan": {
        "id": "s-1",
        "startedAt": "2026-04-26T14:22:00Z",
        "finishedAt": "2026-04-26T14:22:11Z",
        "status": "SUCCESS",
    },
    "findings": {
        "vulnerabilities": [
            {
                "cveId": "CVE-3",
                "source": "trivy",
                "severity": "CRITICAL",
                "cvssScore": 9.8,
                "title": "t",
                "packageName": "c",
                "installedVersion": "1",
                "fixedVersion": "2",
                "vulnerabilityUrl": "u",
            }
        ]
    },
}
RESULT_LIST = TRIVY["Results"]
DOCUMENTS = [TRIVY, GRYPE, ENVELOPE, RESULT_LIST]

HOSTILE = st.sampled_from(
    [
        None,
        True,
        "",
        "\0",
        "x" * 1001,
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "0000-00-00T00:00:00Z",
        "a/b@c@" + DIGEST,
        -1,
        10**30,
        1e308,
        [],
        [None],
        [[]],
        {},
        {"": None},
    ]
)
JSON = st.recursive(
    HOSTILE | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def parse_if_valid(body: bytes, reference: Reference | None) -> Report | None:
    """Parse a report and check what every report guarantees; return None if it is rejected."""
    rejection = None
    try:
        report = parse_report(body, reference=reference)
    except (InvalidReport, UnreadableReport) as error:
        report, rejection = None, error
    if report is None:
        assert rejection
        assert len(rejection.message) < 1000
        assert all(issue.path and len(issue.message) <= 300 for issue in rejection.issues)
        return None
    assert all(report.scanners)
    for moment in (report.built_at, report.started_at, report.finished_at):
        assert moment is None or moment.utcoffset() == timedelta(0)
    for finding in report.findings:
        texts = (
            finding.vulnerability_id,
            finding.package,
            finding.installed_version,
            finding.fixed_version or "",
            finding.title or "",
            finding.url or "",
            *finding.sources,
        )
        assert not any("\0" in text for text in texts)
        assert "".join(texts).encode()
        assert finding.cvss_score is None or 0 <= finding.cvss_score <= 10
    assert grade(risk_score(count_severities(report.findings)))
    return report


def list_paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document, as keys and indexes; the root is first."""
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [path, *(inner for key, value in items for inner in list_paths(value, (*path, key)))]


def change_value(document: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy of the document; `change` gets the container of the value, and its key."""
    changed = copy.deepcopy(document)
    container = changed
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return changed


def test_every_format_gives_scanners_reference_digest_and_findings() -> None:
    scanners = {
        parse_report(
            encode(document), reference=OVERRIDE if document is RESULT_LIST else None
        ).scanners
        for document in DOCUMENTS
    }
    assert scanners == {("trivy",), ("grype",)}
    for document, vulnerability_id in ((TRIVY, "CVE-1"), (GRYPE, "CVE-2"), (ENVELOPE, "CVE-3")):
        report = parse_report(encode(document))
        assert report.reference == Reference("docker.io", "library/nginx", "1")
        assert report.digest == DIGEST
        assert [vulnerability_id] == [finding.vulnerability_id for finding in report.findings]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_reference_of_the_caller_overrides_the_report(document: object) -> None:
    assert parse_report(encode(document), reference=OVERRIDE).reference is OVERRIDE


@pytest.mark.parametrize("document", DOCUMENTS)
def test_white_space_and_indentation_are_ignored(document: object) -> None:
    body = b" \r\n\t" + json.dumps(document, indent=2).encode() + b"\n\n"
    expected = parse_report(encode(document), reference=OVERRIDE)
    assert expected == parse_report(body, reference=OVERRIDE)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \r\n\t ", "empty"),
        (b"\0", "not a JSON"),
        (b"{", "not a JSON"),
        (b"[", "not a JSON"),
        (b"[}", "not a JSON"),
        (b"<html>", "not a JSON"),
        (b"{'SchemaVersion': 2}", "not a JSON"),
        (encode(TRIVY)[:-1], "not a JSON"),
        (encode(GRYPE) + b"x", "not a JSON"),
        (encode(ENVELOPE) * 2, "not a JSON"),
        (encode(ENVELOPE).replace(b"9.8", b"NaN"), "not a JSON"),
        (encode(ENVELOPE).replace(b"9.8", b"Infinity"), "not a JSON"),
        (encode(ENVELOPE).replace(b"9.8", b"09.8"), "not a JSON"),
        (encode(ENVELOPE).replace(b'"t"', b'"\\x41"'), "not a JSON"),
        (encode(ENVELOPE).replace(b'"t"', b'"\xff"'), "not a JSON"),
        (encode(ENVELOPE).replace(b'"t"', b'"\xed\xa0\x80"'), "not a JSON"),
        (encode(ENVELOPE).replace(b'"t"', b'"\x00"'), "not a JSON"),
        (b"\xef\xbb\xbf" + encode(TRIVY), "byte order mark"),
        (json.dumps(TRIVY).encode("utf-16"), "byte order mark"),
        (json.dumps(TRIVY).encode("utf-32"), "byte order mark"),
        (b"\xfe\xff" + json.dumps(TRIVY).encode("utf-16-be"), "byte order mark"),
        (json.dumps(TRIVY).encode("utf-16-le"), "not a JSON"),
        (b'[{"a":' * 200_000, "too deeply"),
        (b'{"a":' * 200_000, "too deeply"),
        (b'{"SchemaVersion":2,"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too deeply"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_body_that_is_not_json_is_unreadable(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableReport, match=reason):
        parse_report(body, reference=OVERRIDE)


@pytest.mark.parametrize(
    "document",
    [
        None,
        True,
        0,
        "report",
        {},
        {"version": "1.0"},
        {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "vulnerabilities": []},
        {"$schema": "sarif", "version": "2.1.0", "runs": []},
        {"Results": []},
        {"version": "15.0.7", "scan": {"type": "container_scanning"}, "vulnerabilities": []},
        {"version": "2.0", "image": "nginx:1", "vulnerabilities": []},
        {"version": "2.0", "findings": []},
        {"scan": {"id": "1"}, "vulnerabilities": []},
        {"findings": [{"id": "1"}]},
        {"image": "nginx:1", "findings": []},
    ],
)
def test_unknown_format_is_rejected_with_names_of_supported_formats(document: object) -> None:
    with pytest.raises(InvalidReport, match="matches none of the supported formats") as caught:
        parse_report(encode(document))
    [issue] = caught.value.issues
    assert (issue.path, caught.value.message) == ("$", f"The report {issue.message}.")
    for report_format in FORMATS:
        assert report_format.name in issue.message


@pytest.mark.parametrize(
    "document", [TRIVY | GRYPE, TRIVY | ENVELOPE, GRYPE | ENVELOPE, TRIVY | {"matches": None}]
)
def test_document_with_marks_of_two_formats_is_rejected(document: object) -> None:
    with pytest.raises(InvalidReport, match="matches more than one of"):
        parse_report(encode(document))


@pytest.mark.parametrize(
    ("document", "score"), [(TRIVY, b"7.5"), (GRYPE, b"5.3"), (ENVELOPE, b"9.8")]
)
@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 400, "1" * 5000, '"9.8"'], ids=len)
def test_unusable_score_is_none(document: object, score: bytes, number: str) -> None:
    report = parse_report(encode(document))
    expected = [replace(finding, cvss_score=None) for finding in report.findings]
    unusable = parse_report(encode(document).replace(score, number.encode()))
    assert unusable == replace(report, findings=tuple(expected))


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"a\u0000b", "a\ufffdb"),
        (r"\ud800", "\ufffd"),
        (r"\uDFFF low first", "\ufffd low first"),
        (r"\ud800\ud800\udc00", "\ufffd\U00010000"),
        (r"\ud83d\ude00\ude00", "\U0001f600\ufffd"),
        (r"\\\ud800", "\\\ufffd"),
        (r"\\ud800 \ud800", r"\ud800" + " \ufffd"),
        (r"\\ud83d\ude00", r"\ud83d" + "\ufffd"),
        (r"\\\ud83d\ude00\ude00", "\\\U0001f600\ufffd"),
        (r"\ude00\\\ud83d\ude00\ud83d", "\ufffd\\\U0001f600\ufffd"),
        (r"\n\ud83d\ude00\ud83d\\ude00", "\n\U0001f600\ufffd\\ude00"),
        (r"\ud800\u0041\n\u00e9", "\ufffdA\n\xe9"),
    ],
)
@pytest.mark.parametrize(
    ("document", "value"),
    [(TRIVY, "t"), (TRIVY, "u"), (TRIVY, "a"), (TRIVY, "2"), (GRYPE, "b"), (GRYPE, "2"),
     (GRYPE, "u"), (ENVELOPE, "t"), (ENVELOPE, "c"), (ENVELOPE, "2"), (RESULT_LIST, "t")],
)  # fmt: skip
def test_unstorable_characters_are_replaced(
    document: object, value: str, escaped: str, text: str
) -> None:
    def replace_value(encoded: str) -> Report:
        body = json.dumps(document).replace(f'"{value}"', f'"{encoded}"').encode()
        return parse_report(body, reference=OVERRIDE)

    assert replace_value(escaped) == replace_value(json.dumps(text)[1:-1])


def test_unstorable_characters_in_names_of_scanners_are_replaced() -> None:
    body = encode(ENVELOPE).replace(b'"source": "trivy"', b'"source": "\\ud800\\u0000"')
    body = body.replace(b'"scannerVersions"', b'"ignored"')
    report = parse_report(body)
    assert report.scanners == report.findings[0].sources == ("\ufffd\ufffd",)


def test_lone_surrogate_after_many_backslashes_is_replaced_quickly() -> None:
    body = encode(ENVELOPE).replace(b'"t"', b'"' + b"\\" * 20_000_000 + b'\\ud800"')
    started_at = monotonic()
    assert parse_report(body).findings[0].title == "\\" * 500
    assert monotonic() - started_at < 5


def test_lone_surrogate_after_many_pairs_is_replaced() -> None:
    pairs = rb"\ud83d\ude00." * 200_000
    body = encode(ENVELOPE).replace(b'"t"', b'"' + pairs + b'"')
    body = body.replace(b'"c"', rb'"\ud800"')
    assert parse_report(body).findings[0].package == "\ufffd"


def test_more_lone_surrogates_than_the_maximum_are_unreadable() -> None:
    body = encode(ENVELOPE).replace(b'"t"', b'"' + rb"\udc00" * 1_000_000 + b'"')
    assert parse_report(body).findings[0].title == "\ufffd" * 500
    with pytest.raises(UnreadableReport):
        parse_report(body.replace(b'\\udc00"', rb'\udc00\udc00"'))


@pytest.mark.parametrize(
    ("document", "value", "field", "length"),
    [
        (TRIVY, "a", "package", 400),
        (TRIVY, "1", "installed_version", 1000),
        (TRIVY, "2", "fixed_version", 1000),
        (TRIVY, "t", "title", 500),
        (TRIVY, "u", "url", 2000),
        (GRYPE, "b", "package", 400),
        (GRYPE, "1", "installed_version", 1000),
        (GRYPE, "2", "fixed_version", 1000),
        (GRYPE, "u", "url", 2000),
        (ENVELOPE, "c", "package", 400),
        (ENVELOPE, "1", "installed_version", 1000),
        (ENVELOPE, "2", "fixed_version", 1000),
        (ENVELOPE, "t", "title", 500),
        (ENVELOPE, "u", "url", 2000),
    ],
)
def test_long_text_is_clipped(document: object, value: str, field: str, length: int) -> None:
    body = json.dumps(document).replace(f'"{value}"', f'"{"x" * 100_000}"').encode()
    [finding] = parse_report(body, reference=OVERRIDE).findings
    assert getattr(finding, field) == "x" * length


def test_long_severity_and_scanned_name_do_not_reject_the_report() -> None:
    body = encode(TRIVY).replace(b'"HIGH"', b'"%s"' % (b"x" * 5000))
    [finding] = parse_report(
        body.replace(b'"nginx:1"', b'"%s"' % (b"n" * 5000), 1), reference=OVERRIDE
    ).findings
    assert finding.severity is Severity.UNKNOWN


def test_unusual_values_in_skipped_fields_are_ignored() -> None:
    skipped = b'{"skipped": [1e999, %s, "\\u0000", {"a": 1, "a": 2}], ' % (b"1" * 5000)
    body = encode(ENVELOPE).replace(b"{", skipped, 1)
    assert parse_report(body) == parse_report(encode(ENVELOPE))


def test_last_of_duplicate_keys_is_used() -> None:
    body = encode(ENVELOPE).replace(b'"severity"', b'"severity": "LOW", "severity"')
    assert parse_report(body) == parse_report(encode(ENVELOPE))


def test_escaped_key_is_recognized() -> None:
    body = encode(GRYPE).replace(b'"matches"', b'"\\u006datches"')
    assert parse_report(body) == parse_report(encode(GRYPE))


@pytest.mark.parametrize(
    ("start", "entry", "end", "path"),
    [
        (b'{"SchemaVersion":2,"Results":[', b"{}", b"]}", "Results[100000]"),
        (
            b'{"SchemaVersion":2,"Results":[{"Vulnerabilities":[',
            b'{"VulnerabilityID":"a","PkgName":"b"}',
            b"]}]}",
            "Results[0].Vulnerabilities[100000]",
        ),
        (b"[", b"{}", b"]", "[100000]"),
        (
            b'{"matches":[',
            b'{"vulnerability":{"id":"a"},"artifact":{"name":"b"}}',
            b"]}",
            "matches[100000]",
        ),
    ],
)
def test_list_over_the_maximum_is_rejected_at_the_first_excess_entry(
    start: bytes, entry: bytes, end: bytes, path: str
) -> None:
    body = start + b",".join([entry] * (MAX_ENTRIES + 5000)) + end
    with pytest.raises(InvalidReport) as caught:
        parse_report(body, reference=OVERRIDE)
    [issue] = caught.value.issues
    assert (path, "the report lists more than 100000 entries") == (issue.path, issue.message)


@pytest.mark.parametrize(
    "listed",
    [b"1," * 500_000 + b"1", b'"aa",' * 500_000 + b'"aa"', b"{}," * 500_000 + b"{}"],
    ids=["numbers", "strings", "objects"],
)
@pytest.mark.parametrize(
    "template",
    [
        b'{"SchemaVersion":2,"ArtifactName":"a","Results":[%s]}',
        b'{"SchemaVersion":2,"ArtifactName":"a","Metadata":{"RepoTags":[%s]}}',
        b'{"SchemaVersion":2,"ArtifactName":"a","Metadata":{"RepoDigests":[%s]}}',
        b'{"SchemaVersion":2,"ArtifactName":"a","Metadata":{"ImageConfig":[%s]}}',
        b'{"SchemaVersion":[%s]}',
        b'{"matches":[],"source":{"target":{"userInput":"a","tags":[%s]}}}',
        b'{"matches":[{"vulnerability":{"id":"a","cvss":[%s]},"artifact":{"name":"b"}}]}',
        b'{"matches":[{"vulnerability":{"id":"a","fix":{"versions":[%s]}},"artifact":{"name":"b"}}]}',
        b'{"version":[%s],"scan":1}',
        b'{"version":"1.0","scan":[%s]}',
    ],
)
def test_many_small_values_use_limited_memory(template: bytes, listed: bytes) -> None:
    body = template % listed
    tracemalloc.start()
    try:
        parse_if_valid(body, OVERRIDE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


@pytest.mark.parametrize("document", [TRIVY, GRYPE, ENVELOPE])
def test_large_report_uses_less_memory_than_half_its_size(document: dict[str, Any]) -> None:
    changed = copy.deepcopy(document)
    container, name = {
        "SchemaVersion": lambda: (changed["Results"][0], "Vulnerabilities"),
        "matches": lambda: (changed, "matches"),
        "version": lambda: (changed["findings"], "vulnerabilities"),
    }[next(iter(document))]()
    [entry] = container[name]
    container[name] = [
        json.loads(json.dumps(entry).replace("CVE-", f"CVE-2026-{number}"))
        | {"description": "d" * 1000, "References": ["https://example.org/" + "r" * 100] * 5}
        for number in range(3000)
    ]
    body = encode(changed)
    tracemalloc.start()
    try:
        report = parse_report(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(report.findings) == 3000
    assert peak < len(body) / 2


def test_equal_strings_share_one_object() -> None:
    entry = ENVELOPE["findings"]["vulnerabilities"][0]
    entries = [entry | {"cveId": f"CVE-{number}", "packageName": "openssl"} for number in range(9)]
    report = parse_report(encode(ENVELOPE | {"findings": {"vulnerabilities": entries}}))
    assert len({id(finding.package) for finding in report.findings}) == 1
    assert len({id(finding.sources) for finding in report.findings}) == 1


def test_concurrent_threads_parse_independently() -> None:
    bodies = [encode(document) for document in (TRIVY, GRYPE, ENVELOPE)]
    expected = [parse_report(body) for body in bodies]
    unexpected: list[Report] = []

    def parse_all() -> None:
        for _ in range(50):
            for body, report in zip(bodies, expected, strict=True):
                parsed = parse_report(body)
                if parsed != report:
                    unexpected.append(parsed)

    threads = [threading.Thread(target=parse_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unexpected == []


@given(st.binary(max_size=200), st.sampled_from([None, OVERRIDE]))
def test_any_bytes_are_parsed_or_rejected(body: bytes, reference: Reference | None) -> None:
    parse_if_valid(body, reference)


@given(JSON, st.sampled_from([None, OVERRIDE]))
def test_any_json_is_parsed_or_rejected(document: object, reference: Reference | None) -> None:
    parse_if_valid(encode(document), reference)


@settings(max_examples=500)
@given(st.data(), JSON, st.sampled_from([None, OVERRIDE]))
def test_report_with_any_value_replaced_is_parsed_or_rejected(
    data: st.DataObject, value: object, reference: Reference | None
) -> None:
    document = data.draw(st.sampled_from(DOCUMENTS))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list_paths(document)))
        if path:
            document = change_value(
                document, path, lambda container, key: container.__setitem__(key, value)
            )
        else:
            document = value
    parse_if_valid(encode(document), reference)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_report_with_any_part_missing_null_or_doubled_is_parsed_or_rejected(document: Any) -> None:
    changes: list[Callable[[Any, Any], None]] = [
        lambda container, key: container.__delitem__(key),
        lambda container, key: container.__setitem__(key, None),
        lambda container, key: container.__setitem__(key, [container[key], container[key]]),
    ]
    for path in list_paths(document)[1:]:
        for change in changes:
            parse_if_valid(encode(change_value(document, path, change)), None)
            parse_if_valid(encode(change_value(document, path, change)), OVERRIDE)


@settings(max_examples=300)
@given(st.sampled_from(DOCUMENTS), st.integers(0, 2000), st.binary(max_size=6), st.integers(0, 6))
def test_report_with_damaged_bytes_is_parsed_or_rejected(
    document: object, position: int, patch: bytes, length: int
) -> None:
    body = encode(document)
    start = position % len(body)
    parse_if_valid(body[:start] + patch + body[start + length :], OVERRIDE)
