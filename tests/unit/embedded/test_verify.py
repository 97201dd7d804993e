from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sluice.monitoring.canary.records import DAGS
from sluice.monitoring.runs import CanaryResult
from sluice_dev.stack.airflow_api import DagRun
from sluice_dev.verify import document, failures_of, lines_of, stage_of

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
URL = "http://127.0.0.1:8080"
PAUSED = "modules_diagnostics is paused; `sluice airflow dags unpause modules_diagnostics`"


def run_of(state: str) -> DagRun:
    return DagRun("platform_canary", "manual__1", state, NOW, NOW + timedelta(seconds=28))


def results_of(**failures: str) -> dict[str, CanaryResult]:
    return {
        name: CanaryResult("manual__1", NOW, None if name in failures else 8.25, failures.get(name, ""))
        for name in DAGS
    }


def test_each_pipeline_has_a_line_with_its_latency() -> None:
    run, results = run_of("success"), results_of()
    assert failures_of(run, results, URL) == {}
    assert lines_of(run, results, {}) == [
        "dockerhub       right   8.2 s",
        "events          right   8.2 s",
        "modules         right   8.2 s",
        "accommodations  right   8.2 s",
        "datasets        right   8.2 s",
        "all right in 28 s",
    ]


def test_a_failed_pipeline_has_its_sentence_and_its_command_in_80_columns() -> None:
    run, results = run_of("failed"), results_of(modules=PAUSED, events="no raw file " * 12 + "after 300 s; look")
    failures = failures_of(run, results, URL)
    lines = lines_of(run, results, failures)
    assert "modules         failed  modules_diagnostics is paused" in lines
    assert "  `sluice airflow dags unpause modules_diagnostics`" in lines
    assert lines[-1] == "2 failed in 28 s"
    assert max(map(len, lines)) <= 80
    assert document(run, results, failures)["ok"] is False


@pytest.mark.parametrize("noted", [True, False])
def test_a_run_that_failed_without_a_failed_pipeline_is_not_right(noted: bool) -> None:
    run, results = run_of("failed"), results_of() if noted else {}
    failures = failures_of(run, results, URL)
    assert f"{URL}/dags/platform_canary/runs/manual__1" in failures["canary"]
    assert lines_of(run, results, failures)[-1].startswith("1 failed")


def test_the_progress_names_the_pipelines_that_have_not_published() -> None:
    assert stage_of({"prepare": "running"}) == "removing what earlier canaries left"
    states = {"prepare": "success", "events.put": "success", "events.hour": "deferred", "modules.put": "skipped"}
    assert stage_of(states) == "waiting for events"
    assert stage_of(states | {"events.hour": "success"}) == "comparing, then removing the records"
