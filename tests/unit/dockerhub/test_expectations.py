from __future__ import annotations

from typing import Any

import pytest

from sluice.core.quality.gate import validate
from sluice.core.quality.report import Finding
from sluice.pipelines.dockerhub.expectations import (
    AGGREGATE_COLUMNS,
    PULL_COLUMNS,
    aggregate_expectations,
    pull_expectations,
)

ANSWER: dict[str, Any] = {
    "user": "localstack",
    "name": "localstack",
    "namespace": "localstack",
    "star_count": 198,
    "pull_count": 178_900_000,
    "last_updated": "2023-09-14T15:00:00Z",
    "asked_name": "localstack",
    "asked_namespace": "localstack",
    "last_updated_us": 1_694_703_600_000_000,
    "observed_at_us": 1_694_703_600_000_000,
    "last_pull_count": 178_900_000,
}
OTHER = ANSWER | {"name": "other", "asked_name": "other", "last_pull_count": None}
OBJECT: dict[str, Any] = {field: ANSWER[field] for field in AGGREGATE_COLUMNS if field in ANSWER} | {
    "key": "raw/dockerhub/1.json",
    "year_month": "2023-09",
    "read_at_us": ANSWER["last_updated_us"],
}
OTHER_OBJECT = OBJECT | {"key": "raw/dockerhub/2.json", "year_month": "2023-10"}


def failed_pull(*rows: dict[str, Any]) -> list[Finding]:
    return [each for each in validate("pull", rows, PULL_COLUMNS, pull_expectations) if not each.passed]


def failed_aggregate(*rows: dict[str, Any]) -> list[Finding]:
    findings = validate("aggregate", rows, AGGREGATE_COLUMNS, aggregate_expectations)
    return [each for each in findings if not each.passed]


def test_good_answers_pass() -> None:
    assert failed_pull(ANSWER, OTHER) == []


def test_a_pull_without_responses_passes_and_so_do_new_repositories() -> None:
    assert failed_pull() == []
    assert failed_pull(OTHER) == []


@pytest.mark.parametrize(
    ("changes", "expectation"),
    [
        *(({field: None}, f"not_be_null(column={field}") for field in ("user", "name", "namespace", "last_updated")),
        ({"star_count": None}, "not_be_null(column=star_count"),
        ({"star_count": "198"}, "in_type_list(column=star_count"),
        ({"pull_count": 1.5}, "in_type_list(column=pull_count"),
        ({"star_count": -1}, "be_between(column=star_count"),
        ({"pull_count": -1}, "be_between(column=pull_count"),
        ({"name": "another"}, "pair_values_to_be_equal(column_A=name"),
        ({"namespace": "another"}, "pair_values_to_be_equal(column_A=namespace"),
        ({"last_updated_us": ANSWER["observed_at_us"] + 1}, "column_A=observed_at_us, column_B=last_updated_us"),
    ],
    ids=str,
)
def test_one_bad_answer_stops_the_pull_and_is_named(changes: dict[str, Any], expectation: str) -> None:
    critical = [each for each in failed_pull(OTHER, ANSWER | changes) if each.severity == "critical"]
    assert any(expectation in str(each) for each in critical), [str(each) for each in critical]
    assert all(each.observed for each in critical)


def test_a_falling_pull_count_only_warns() -> None:
    (warning,) = failed_pull(ANSWER | {"pull_count": 178_899_999}, OTHER)
    assert (warning.severity, warning.passed) == ("warning", False)
    assert "pull_count" in warning.expectation
    assert "178899999" in warning.observed


def test_good_objects_pass_and_so_does_a_batch_without_usable_objects() -> None:
    assert failed_aggregate(OBJECT, OTHER_OBJECT) == []
    assert failed_aggregate() == []


@pytest.mark.parametrize(
    ("changes", "expectation"),
    [
        ({"pull_count": -1}, "be_between(column=pull_count"),
        ({"star_count": None}, "not_be_null(column=star_count"),
        ({"last_updated": None}, "not_be_null(column=last_updated"),
        ({"year_month": "2023-13"}, "match_regex(column=year_month"),
        ({"year_month": "2023-9"}, "match_regex(column=year_month"),
        ({"key": OTHER_OBJECT["key"]}, "be_unique(column=key"),
        ({"last_updated_us": OBJECT["read_at_us"] + 1}, "column_A=read_at_us, column_B=last_updated_us"),
    ],
    ids=str,
)
def test_one_bad_object_stops_the_batch_and_is_named(changes: dict[str, Any], expectation: str) -> None:
    failed = failed_aggregate(OTHER_OBJECT, OBJECT | changes)
    assert any(expectation in str(each) for each in failed), [str(each) for each in failed]
    assert {each.severity for each in failed} == {"critical"}
