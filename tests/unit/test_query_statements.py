"""Details of the generated statements in which a small mistake would return wrong rows.

`make mutants` found that the other tests without a database do not notice these.
"""

import re
from typing import Any

import pytest

from harborguard.listing import (
    CountedSeverity,
    FindingCriteria,
    FindingSort,
    FindingSortKey,
    ImageCriteria,
    Page,
    ScanAge,
    Sort,
    SortKey,
)
from harborguard.model import Grade, Scope
from harborguard.store.images.filters import ImageFilters
from harborguard.store.images.findings import FindingQuery
from harborguard.store.images.plan import Counts, IndexRange, Partition, SortMatches, plan_page
from harborguard.store.images.query import ImageQuery
from harborguard.store.images.summary import make_summary_query

ACME = Scope("org-acme")
BY_SCORE = Sort(SortKey.RISK_SCORE, descending=True)
SCORED = IndexRange(15, 3, descending=False, partition=Partition.SCORED, start=4)
UNSCORED = IndexRange(5, 2, descending=True, partition=Partition.UNSCORED)


def one_line(statement: str) -> str:
    return " ".join(statement.split())


# -- filters --------------------------------------------------------------------------------------


def test_registry_filter_compares_id_host_and_name_with_one_parameter() -> None:
    filters = ImageFilters(ACME, ImageCriteria(registry="GHCR.io"))
    assert filters.parameters == {"organization_id": "org-acme", "registry": "GHCR.io"}
    assert filters.index_conditions.count("%(registry)s") == 3


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (ImageCriteria(), True),
        (ImageCriteria(registry="x", risk_score=1, grades=(Grade.A,)), True),
        (ImageCriteria(search="x"), False),
        (ImageCriteria(registry="x", search="x"), False),
        (ImageCriteria(scanned=ScanAge.NEVER), True),
        (ImageCriteria(scanned=ScanAge.STALE), False),
        (ImageCriteria(cve_id="x"), False),
        (ImageCriteria(package="x"), False),
        (ImageCriteria(is_fixable=True), False),
        (ImageCriteria(severities=(CountedSeverity.HIGH,)), False),
        (ImageCriteria(tag="x"), False),
    ],
)
def test_filters_on_columns_of_the_counters_use_them(
    criteria: ImageCriteria, expected: bool
) -> None:
    assert ImageQuery(ACME, criteria).uses_counters is expected


# -- the list -------------------------------------------------------------------------------------


def test_early_page_reads_images_and_takes_the_total_of_the_inventory() -> None:
    statement, parameters = ImageQuery(ACME, ImageCriteria()).early_page(Page(3, 20))
    text = one_line(statement)
    assert "SELECT inventory.version, inventory.image_count AS total, image.id," in text
    assert (
        "LEFT JOIN LATERAL ( SELECT * FROM images WHERE organization_id = %(organization_id)s"
        " ORDER BY created_at DESC, id DESC LIMIT %(limit)s OFFSET %(offset)s ) AS image ON true"
    ) in text
    assert parameters == {"organization_id": "org-acme", "limit": 20, "offset": 40}


def test_page_of_sorted_matches_slices_the_sorted_rows() -> None:
    statement, parameters = ImageQuery(ACME, ImageCriteria()).page(SortMatches(20, 40))
    text = one_line(statement)
    assert "SELECT inventory.version, NULL AS total," in text
    assert "SELECT found.* FROM ( SELECT id FROM ( SELECT id, name, created_at" in text
    assert "OFFSET 0 ) AS match ORDER BY created_at DESC, id DESC LIMIT %(limit)s" in text
    assert parameters == {"organization_id": "org-acme", "limit": 20, "offset": 40}


def test_page_of_index_ranges_scans_each_in_its_order_with_its_slice() -> None:
    query = ImageQuery(ACME, ImageCriteria(sort=BY_SCORE))
    statement, parameters = query.page([SCORED, UNSCORED])
    text = one_line(statement)
    assert "SELECT inventory.version, NULL AS total," in text
    assert (
        "SELECT found.* FROM ("
        " (SELECT id FROM images WHERE organization_id = %(organization_id)s"
        " AND risk_score >= %(start)s"
        " ORDER BY risk_score ASC, id ASC LIMIT %(limit)s OFFSET %(offset)s)"
        " UNION ALL (SELECT id FROM images WHERE organization_id = %(organization_id)s"
        " AND risk_score IS NULL"
        " ORDER BY risk_score DESC, id DESC LIMIT %(unscored_limit)s OFFSET %(unscored_offset)s)"
        " ) AS page CROSS JOIN LATERAL"
    ) in text
    assert parameters == {
        "organization_id": "org-acme",
        **{"limit": 15, "offset": 3, "start": 4, "unscored_limit": 5, "unscored_offset": 2},
    }


def test_window_returns_the_counted_total_and_the_columns() -> None:
    text = one_line(ImageQuery(ACME, ImageCriteria(search="x")).window(Page())[0])
    assert "SELECT inventory.version, image.total AS total," in text
    assert "SELECT found.*, page.total FROM ( SELECT id, count(*) OVER () AS total FROM" in text


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, 1050), (3, 1150), (2**58, 2**63 - 1), (2**60, 2**63 - 1)],
)
def test_number_of_counted_matches_fits_into_a_bigint(number: int, expected: int) -> None:
    assert ImageQuery(ACME, ImageCriteria(search="x")).max_counted(Page(number)) == expected


def test_window_over_findings_counts_all_matches() -> None:
    query = ImageQuery(ACME, ImageCriteria(cve_id="x"))
    assert query.max_counted(Page()) == 2**63 - 1
    assert query.window(Page())[1]["max_matches"] == 2**63 - 1


# -- the plan -------------------------------------------------------------------------------------


def test_matches_are_sorted_only_if_the_scan_costs_more() -> None:
    # 10 of 100 match: the scan reads 100 entries for the page, and sorting costs as much.
    by_name = Sort(SortKey.NAME, descending=False)
    scan = [IndexRange(10, 0, descending=False)]
    assert plan_page(by_name, Page(1, 10), Counts(1, 100, [(None, 10)])) == scan
    assert plan_page(by_name, Page(1, 10), Counts(1, 101, [(None, 10)])) == SortMatches(10, 0)


@pytest.mark.parametrize("key", [SortKey.LAST_SCANNED_AT, SortKey.TAG_COUNT])
def test_matches_are_sorted_by_a_column_without_an_index(key: SortKey) -> None:
    plan = plan_page(Sort(key, descending=True), Page(2, 10), Counts(1, 15, [(None, 15)]))
    assert plan == SortMatches(5, 10)


def test_page_in_the_middle_is_scanned_forward() -> None:
    by_name = Sort(SortKey.NAME, descending=False)
    middle = [IndexRange(10, 10, descending=False)]
    assert plan_page(by_name, Page(2, 10), Counts(1, 30, [(None, 30)])) == middle


# -- findings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criteria", "condition", "parameters"),
    [
        (
            FindingCriteria(package="OpenSSL"),
            "lower(package) = lower(%(package)s)",
            {"package": "OpenSSL"},
        ),
        (FindingCriteria(is_fixable=True), "fixed_version IS NOT NULL", {}),
        (FindingCriteria(is_fixable=False), "fixed_version IS NULL", {}),
        (
            FindingCriteria(search="CVE_1"),
            "CASE WHEN organization_id = %(organization_id)s AND set_id = %(set_id)s THEN"
            " ( vulnerability_id ILIKE %(search)s OR package ILIKE %(search)s"
            " OR title ILIKE %(search)s ) END",
            {"search": "%cve\\_1%"},
        ),
    ],
)
def test_finding_filter_is_one_condition(
    criteria: FindingCriteria, condition: str, parameters: dict[str, Any]
) -> None:
    statement, given = FindingQuery("org-acme", 7, criteria).page(Page())
    text = one_line(statement)
    assert f"AND set_id = %(set_id)s AND {condition} ), page AS" in text
    assert {name: given[name] for name in parameters} == parameters
    assert given.keys() == {
        *{"organization_id", "set_id", "severity_order", "limit", "offset"},
        *parameters,
    }


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, "rank ASC, cvss_score DESC NULLS LAST, position ASC"),
        (
            FindingSort(FindingSortKey.PACKAGE, descending=False),
            'package COLLATE "C" ASC, position ASC',
        ),
    ],
)
def test_findings_are_ordered_inside_and_outside_the_page(
    sort: FindingSort | None, expected: str
) -> None:
    statement, _ = FindingQuery("org-acme", 7, FindingCriteria(sort=sort)).page(Page())
    assert re.findall(r"ORDER BY (.+)", statement) == [expected, expected]


# -- the summary ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use_counters", "source"),
    [(True, "n::integer FROM image_counts"), (False, "1 AS n FROM images")],
)
def test_summary_reads_counters_or_rows(use_counters: bool, source: str) -> None:
    filters = ImageFilters(ACME, ImageCriteria(risk_score=7))
    text, _ = make_summary_query(filters, use_counters=use_counters)
    assert f"SELECT registry_id, risk_score, {source} WHERE {filters.index_conditions}\n" in text
