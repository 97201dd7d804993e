"""The data of a Dag and of one of its runs: counts, gates, and locations of the files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sluice.aws.tables import definitions
from sluice.aws.threads import in_parallel
from sluice.core.pipeline import Dag
from sluice.core.tally import COUNTS
from sluice.lake import run_slug
from sluice.lake_views.overview import RUNS_READ, gate_document
from sluice.lake_views.places import table_pages
from sluice.lake_views.quality import RUNS_SHOWN
from sluice.lake_views.tables import snapshot_document
from sluice.monitoring import history
from sluice.monitoring.history import GateRecord, RunRecord
from sluice.monitoring.pipelines import find_dag, pipelines
from sluice.settings import Settings

DAYS = 30
SHOWN = 30
"""Number of runs of a Dag in its tab."""

GATE_RUNS_READ = 200


def read_dag(settings: Settings, dag_id: str, now: datetime) -> dict[str, Any]:
    """Counts of the newest runs of a Dag, newest first, and its tables."""
    pipeline, dag = find_dag(settings, dag_id)
    runs = history.read_runs_of(settings.runs_table, dag_id, now - timedelta(days=DAYS), SHOWN)
    gates = [gate for gate in history.read_newest_gates(settings.runs_table) if gate.dag_id == dag_id]
    return {
        "dag": dag_id,
        "pipeline": pipeline,
        "tables": table_documents(settings, dag),
        "runs": [run_document(run) for run in runs],
        "gates": [gate_document(gate) for gate in gates],
    }


def read_run(settings: Settings, dag_id: str, run_id: str, now: datetime) -> dict[str, Any]:
    """Counts of a run (None without counts, or after 30 days), its gates, snapshots and locations."""
    pipeline, dag = find_dag(settings, dag_id)
    asked: list[Callable[[], Any]] = [
        partial(history.read_runs_of, settings.runs_table, dag_id, now - timedelta(days=DAYS), RUNS_READ),
        partial(snapshots_of_run, settings, pipeline, dag_id, run_id),
    ]
    runs, snapshots = in_parallel(lambda ask: ask(), asked)
    names = [gate.gate for gate in history.read_newest_gates(settings.runs_table) if gate.dag_id == dag_id]
    histories = in_parallel(lambda gate: history.read_gate_history(settings.runs_table, gate, GATE_RUNS_READ), names)
    gates: list[GateRecord] = [each for found in histories for each in found if each.run_id == run_id]
    run = next((each for each in runs if each.run_id == run_id), None)
    slug = run_slug(run_id)
    return {
        "dag": dag_id,
        "run": run_id,
        "pipeline": pipeline,
        "tables": table_documents(settings, dag),
        "counted": run_document(run) if run else None,
        "gates": [gate_document(gate) for gate in gates[:RUNS_SHOWN]],
        "snapshots": snapshots,
        "places": {
            "staging": f"staging/{pipeline}/{slug}/",
            "quarantine": f"quarantine/{pipeline}/{slug}/",
        },
    }


def table_documents(settings: Settings, dag: Dag) -> list[dict[str, Any]]:
    """Tables that a Dag publishes to, and whether each has a page."""
    pages = table_pages(settings)
    return [{"table": table, "has_page": table in pages} for table in dag.tables]


def snapshots_of_run(settings: Settings, pipeline: str, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Snapshots that a run committed to the Iceberg tables of its pipeline, as far as they can still be read.

    Runs of two Dags may have the same id: Airflow names scheduled runs by their time.

    Raises:
        TableMissing: a table of the pipeline is not deployed.
    """
    names = [table.name for each in pipelines(settings) if each.name == pipeline for table in each.tables()]
    slug = run_slug(run_id)

    def find(name: str) -> list[dict[str, Any]]:
        table = definitions.load(settings, name)
        mine = (
            each
            for each in table.snapshots()
            if each.summary and (each.summary.get("sluice.dag"), each.summary.get("sluice.run")) == (dag_id, slug)
        )
        return [{"table": name} | snapshot_document(definitions.snapshot_of(table, each)) for each in mine]

    return [each for found in in_parallel(find, names) for each in found]


def run_document(run: RunRecord) -> dict[str, Any]:
    """A run as plain values; its counts are None if it failed before it counted."""
    return {
        "run": run.run_id,
        "started_at": run.started_at.isoformat(),
        "at": run.at.isoformat(),
        "outcome": run.outcome,
        "partition": run.partition,
        **{name: run.tally.get(name) for name in COUNTS},
    }
