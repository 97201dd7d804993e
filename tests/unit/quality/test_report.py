from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from sluice.core.quality.report import Finding, GateReport, render

FINDING = Finding("be_unique(column=key)", "critical", passed=True, observed="")
REPORT = GateReport("p/step", "run-1", 3, passed=True, measures={}, findings=[FINDING])


def outcomes(page: str) -> list[str]:
    return re.findall(r'<td class="(\w+)">\1</td>', page)


def test_a_page_says_which_gate_which_run_and_how_it_ended() -> None:
    page = render(REPORT)
    assert "p/step" in page
    assert "run-1" in page
    assert "3 rows" in page
    assert '<span class="passed">passed</span>' in page
    assert '<span class="failed">failed</span>' in render(replace(REPORT, passed=False))


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [({}, "passed"), ({"passed": False}, "failed"), ({"passed": False, "severity": "warning"}, "warned")],
)
def test_every_expectation_shows_its_outcome(changes: dict[str, Any], outcome: str) -> None:
    assert outcomes(render(replace(REPORT, findings=[replace(FINDING, **changes)]))) == [outcome]


def test_bad_data_cannot_run_a_script_in_the_page() -> None:
    finding = replace(FINDING, passed=False, observed="<script>alert(1)</script>")
    page = render(replace(REPORT, findings=[finding]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_page_needs_nothing_from_the_network() -> None:
    assert not re.search(r"(?:src|href)=|@import|url\(|https?://", render(REPORT))


def test_a_page_shows_the_time_of_the_run_the_expectations_and_findings() -> None:
    finding = replace(FINDING, expected="key is unique", found="3 distinct (a, b, c)")
    run = "scheduled__2026-11-21T02-13-00.123456_00-00_abc"
    page = render(replace(REPORT, run=run, findings=[finding], measures={"records_in": 400}))
    assert "scheduled, 2026-11-21 02:13:00 UTC" in page
    assert "1 expectations: 1 passed" in page
    assert "key is unique" in page
    assert "3 distinct (a, b, c)" in page
    assert "<td>records_in</td><td>400</td>" in page
