from __future__ import annotations

from typing import Any

from sluice.lake_views.quality import broken, grid


def finding(expectation: str, *, passed: bool = True, severity: str = "critical") -> dict[str, Any]:
    return {
        "expectation": expectation,
        "severity": severity,
        "passed": passed,
        "observed": "" if passed else "observed 3",
        "expected": f"{expectation} in words",
        "found": "3",
    }


def test_the_grid_has_a_row_an_expectation_and_a_column_a_run() -> None:
    reports = [
        {"findings": [finding("a"), finding("b", passed=False, severity="warning")]},
        None,
        {"findings": [finding("a", passed=False)]},
    ]
    assert [(row["expected"], row["outcomes"]) for row in grid(reports)] == [
        ("a in words", ["passed", "", "failed"]),
        ("b in words", ["warned", "", ""]),
    ]


def test_what_does_not_hold_is_said_in_words() -> None:
    report = {"findings": [finding("a"), finding("b", passed=False)]}
    assert broken(report) == [{"expected": "b in words", "found": "3", "severity": "critical"}]
    assert broken(None) == []


def test_a_report_of_before_there_were_words_is_shown_as_it_is() -> None:
    old = {"expectation": "be_unique(column=key)", "severity": "critical", "passed": False, "observed": "observed 3"}
    assert broken({"findings": [old]})[0]["expected"] == "be_unique(column=key)"
    assert grid([{"findings": [old]}])[0]["expected"] == "be_unique(column=key)"
