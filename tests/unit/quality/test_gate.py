from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.aws import s3
from sluice.core.quality import GateFailed
from sluice.core.quality import gate as gate_module
from sluice.core.quality.gate import EXAMPLES, GateResult, run_gate, validate
from sluice.core.run import Run

ROWS = [{"name": "a", "count": 1}, {"name": "b", "count": -1}, {"name": "c", "count": -2}]


def positive() -> Sequence[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="count", min_value=0)]


def positive_as_a_warning() -> Sequence[Any]:
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnValuesToBeBetween(column="count", min_value=0, severity=FailureSeverity.WARNING),
        gxe.ExpectColumnValuesToBeUnique(column="name"),
    ]


def about_a_column_that_is_not_there() -> Sequence[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeUnique(column="elsewhere"), gxe.ExpectColumnValuesToBeUnique(column="name")]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the gate wrote, by key."""
    objects: dict[str, bytes] = {}

    def write(bucket: str, key: str, body: bytes, content_type: str = "") -> str:
        objects[key] = body
        return f"s3://{bucket}/{key}"

    monkeypatch.setattr(s3, "write_object", write)
    return objects


def gate(rows: Sequence[dict[str, Any]], expectations: Any) -> GateResult:
    return run_gate(Run("pipeline", "run-1", "lake"), "step", rows, ["name", "count"], expectations)


def test_a_gate_that_passes_says_so_in_xcom_and_leaves_a_report(written: dict[str, bytes]) -> None:
    assert gate(ROWS[:1], positive) == {
        "gate": "pipeline/step",
        "rows": 1,
        "expectations": 1,
        "warnings": [],
        "report": "s3://lake/quality/pipeline/step/run-1.html",
    }
    assert list(written) == ["quality/pipeline/step/run-1.json", "quality/pipeline/step/run-1.html"]


def test_a_failed_gate_names_the_expectation_the_values_and_the_report(written: dict[str, bytes]) -> None:
    with pytest.raises(GateFailed) as failed:
        gate(ROWS, positive)
    message = str(failed.value)
    assert "gate pipeline/step failed 1 of 1 expectations on 3 rows, nothing was published" in message
    assert "expect_column_values_to_be_between(column=count, min_value=0" in message
    assert "2 of 3 values unexpected, such as [-1, -2]" in message
    assert message.endswith("report: s3://lake/quality/pipeline/step/run-1.html")
    document = json.loads(written["quality/pipeline/step/run-1.json"])
    assert (document["passed"], document["rows"], len(document["findings"])) == (False, 3, 1)


def test_a_warning_is_reported_and_lets_the_data_pass(
    written: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sluice")
    answer = gate(ROWS, positive_as_a_warning)
    (warning,) = answer["warnings"]
    assert "column=count" in warning
    assert any(warning in message for message in caplog.messages)
    document = json.loads(written["quality/pipeline/step/run-1.json"])
    assert [(each["severity"], each["passed"]) for each in document["findings"]] == [
        ("warning", False),
        ("critical", True),
    ]


def test_an_expectation_that_cannot_be_computed_is_a_failure_and_says_why(written: dict[str, bytes]) -> None:
    broken, computed = validate("rows", ROWS, ["name", "count"], about_a_column_that_is_not_there)
    assert (broken.passed, computed.passed) == (False, True)
    assert "could not be computed" in broken.observed
    assert "elsewhere" in broken.observed
    with pytest.raises(GateFailed, match="elsewhere"):
        gate(ROWS, about_a_column_that_is_not_there)


@given(st.lists(st.fixed_dictionaries({"name": st.sampled_from("ab"), "count": st.sampled_from([None, -1, 0, 1])})))
@settings(max_examples=15)
def test_a_gate_decides_the_same_with_and_without_a_search_for_examples(rows: list[dict[str, Any]]) -> None:
    def decided(result_format: Literal["BOOLEAN_ONLY", "SUMMARY"]) -> list[bool]:
        results = gate_module._results("rows", rows, ["name", "count"], positive_as_a_warning(), result_format)
        return [bool(each.success) for each in sorted(results, key=gate_module._position)]

    assert decided("BOOLEAN_ONLY") == decided("SUMMARY")


def test_a_message_shows_a_few_examples_and_not_a_million(written: dict[str, bytes]) -> None:
    (finding,) = validate("rows", [{"name": str(n), "count": -n} for n in range(1, 1001)], ["name", "count"], positive)
    assert "1000 of 1000" in finding.observed
    assert finding.observed.count("-") == EXAMPLES


def test_the_same_rows_give_the_same_bytes(written: dict[str, bytes]) -> None:
    gate(ROWS[:1], positive)
    first = dict(written)
    gate(ROWS[:1], positive)
    assert written == first


def test_the_report_of_no_rows_can_be_read(written: dict[str, bytes]) -> None:
    assert gate([], positive)["rows"] == 0
    assert b"0 rows" in written["quality/pipeline/step/run-1.html"]


def two_counts_are_equal() -> Sequence[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnPairValuesToBeEqual(column_A="count", column_B="accounted")]


def test_a_report_says_each_expectation_in_words_with_what_was_found(written: dict[str, bytes]) -> None:
    (finding,) = validate("rows", [{"count": 3, "accounted": 2}], ["count", "accounted"], two_counts_are_equal)
    assert (finding.expected, finding.found) == ("count equals records accounted for", "3 and 2")
    assert finding.observed == "1 of 1 values unexpected, such as [(3, 2)]"
    gate(ROWS[:1], positive)
    document = json.loads(written["quality/pipeline/step/run-1.json"])
    assert document["findings"][0]["found"] == "1"
    assert document["measures"] == {"name": "a", "count": 1}
