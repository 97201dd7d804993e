"""The button "Report" of a gate. That it works on the embedded AWS is shown where a gate fails, and in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sluice_airflow.gates import GateOperator, page_of

if TYPE_CHECKING:
    from airflow.sdk import DAG


def test_on_an_account_a_report_is_shown_by_the_console_of_s3(configure: Callable[..., Any]) -> None:
    configure(target="aws", aws_region="eu-west-1")
    assert page_of("s3://lake/quality/events/hourly/run.html") == (
        "https://eu-west-1.console.aws.amazon.com/s3/object/lake"
        "?region=eu-west-1&prefix=quality%2Fevents%2Fhourly%2Frun.html"
    )


def test_every_check_of_staged_data_is_a_gate_that_names_what_it_expects(dags: dict[str, DAG]) -> None:
    from airflow.sdk._shared.module_loading import import_string

    checks = [task for dag in dags.values() for task in dag.tasks if task.task_id.startswith("check")]
    assert len(checks) >= 8
    for task in checks:
        assert isinstance(task, GateOperator), task.task_id
        assert {"gate", "expectations", "report"} <= set(task.template_fields)
        assert re.fullmatch(r"[A-Z].*\.", task.expectations)
        assert import_string(task.check).__doc__.startswith("The gate")
