"""Run Dags one after another in this process, as `airflow dags test` does, for `sluice demo`.

Airflow takes ten seconds to start and logs to standard output as soon as it is imported. So all runs share one process,
and the results leave it by the standard output that it started with, one line of JSON for each run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

TALLY_TASK = {
    "dockerhub_pull": "publish_answers",
    "dockerhub_aggregate": "publish_aggregates",
    "events_ingest": "publish_batch",
    "events_hourly": "publish_hour",
    "modules_diagnostics": "publish_rates",
    "accommodations_consolidate": "publish",
    "datasets_aggregate": "publish",
}
"""The task of each Dag that returns the tally of its run."""


class DemoFailed(RuntimeError):
    """A Dag could not be read, or its run did not succeed."""


def run_dag(dag: DAG, logical_date: datetime | None) -> dict[str, Any]:
    """Run a Dag; returns the tally of its run with `dag_id`, `run_id` and `seconds`.

    Raises:
        DemoFailed: the run did not succeed.
    """
    started = time.monotonic()
    # Not to be given as None: that would be a run without a logical date.
    run = dag.test(logical_date=logical_date) if logical_date else dag.test()
    seconds = time.monotonic() - started
    if run.state != "success":
        raise DemoFailed(f"{dag.dag_id} {run.run_id} ended as {run.state}")
    task_id = TALLY_TASK[dag.dag_id]
    tally = run.get_task_instance(task_id).xcom_pull(task_ids=task_id)
    return {"dag_id": dag.dag_id, "run_id": run.run_id, "seconds": seconds} | (tally or {})


def main(runs: list[str]) -> None:
    """Run Dags in the order given, each as `dag_id` or `dag_id@logical_date` (ISO 8601)."""
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from airflow.dag_processing.dagbag import DagBag

    from sluice.settings import PROJECT_ROOT

    bag = DagBag(str(PROJECT_ROOT / "dags"))
    if bag.import_errors:
        raise DemoFailed("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    for dag_id, _, date in (run.partition("@") for run in runs):
        logical_date = datetime.fromisoformat(date) if date else None
        print(json.dumps(run_dag(bag.dags[dag_id], logical_date)), file=results, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
