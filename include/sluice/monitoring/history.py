"""History of runs and gates in the table of runs: counts of each run, and results of each gate.

Partition key `history/<dag>` or `gate/<gate>`, sort key `<start of the run>/<run>`: the newest are read by one bounded
query, and a task that is retried or cleared overwrites its items. `gate` holds the newest result of each gate. DynamoDB
deletes an item at its `expires_at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sluice.aws import dynamodb
from sluice.monitoring.runs import time_text

RUNS_KEPT = timedelta(days=30)
GATES_KEPT = timedelta(days=90)
"""Same retention as the reports (infra/lake.yaml)."""

NEWEST = "gate"
"""Partition key of the newest result of each gate."""

SUCCEEDED = "succeeded"
FAILED = "failed"

PASSED = "passed"
WARNED = "warned"


@dataclass(frozen=True)
class RunRecord:
    """A run that counted records, or failed.

    Attributes:
        dag_id: its Dag.
        run_id: the run.
        started_at: when it began (UTC).
        at: time of its counts or failure (UTC).
        outcome: `succeeded` or `failed`.
        tally: counts of records; empty if it failed before.
        partition: hour, day or month of a run of a partitioned Dag, else "".
    """

    dag_id: str
    run_id: str
    started_at: datetime
    at: datetime
    outcome: str
    tally: dict[str, int] = field(default_factory=dict)
    partition: str = ""


@dataclass(frozen=True)
class GateRecord:
    """Result of a gate in one run.

    Attributes:
        gate: `<pipeline>/<step>`.
        dag_id: the Dag; with `task_id` and `run_id` the task that ran the gate.
        task_id: the task.
        run_id: the run.
        started_at: when the run began (UTC).
        at: when the gate ended (UTC).
        outcome: `passed`, `warned` or `failed`.
        report: address of the report (s3://).
        message: failed and warned expectations; "" if all passed.
    """

    gate: str
    dag_id: str
    task_id: str
    run_id: str
    started_at: datetime
    at: datetime
    outcome: str
    report: str
    message: str = ""


def record_run(table: str, record: RunRecord) -> None:
    """Record the counts or the failure of a run; a repeated call overwrites the item, and a failure keeps the
    counts."""
    values: dict[str, Any] = {
        ":at": time_text(record.at),
        ":outcome": record.outcome,
        ":partition": record.partition,
        ":expires": _expiry(record.started_at, RUNS_KEPT),
    }
    update = "SET #at = :at, outcome = :outcome, #partition = :partition, expires_at = :expires"
    if record.tally:
        update += ", tally = :tally"
        values[":tally"] = {name: int(count) for name, count in record.tally.items()}
    _write(table, f"history/{record.dag_id}", _name(record.started_at, record.run_id), update, values)


def record_gate(table: str, record: GateRecord) -> None:
    """Record the result of a gate in its history, and as its newest result unless a newer one exists."""
    values: dict[str, Any] = {
        ":at": time_text(record.at),
        ":outcome": record.outcome,
        ":dag": record.dag_id,
        ":task": record.task_id,
        ":run": record.run_id,
        ":started": time_text(record.started_at),
        ":report": record.report,
        ":message": record.message[:4000],
        ":expires": _expiry(record.started_at, GATES_KEPT),
    }
    update = (
        "SET #at = :at, outcome = :outcome, dag_id = :dag, task_id = :task, run_id = :run, started_at = :started,"
        " report = :report, #message = :message, expires_at = :expires"
    )
    _write(table, f"{NEWEST}/{record.gate}", _name(record.started_at, record.run_id), update, values)
    _write(table, NEWEST, record.gate, update, values)


def _write(table: str, kind: str, name: str, update: str, values: dict[str, Any]) -> None:
    names = {"#at": "at", "#partition": "partition", "#message": "message"}
    used = {placeholder: attribute for placeholder, attribute in names.items() if placeholder in update}
    key, is_newer = {"kind": kind, "name": name}, "attribute_not_exists(#at) OR #at <= :at"
    what = dynamodb.Update(table, key, update, condition=is_newer, values=values, names=used)
    dynamodb.write(what, hasty=True)


def _name(started_at: datetime, run_id: str) -> str:
    return f"{time_text(started_at)}/{run_id}"


def _expiry(at: datetime, kept: timedelta) -> int:
    return int((at + kept).timestamp())


def read_runs_of(table: str, dag_id: str, since: datetime, limit: int) -> list[RunRecord]:
    """The newest runs of a Dag that began at a time (UTC) or later, the newest first.

    Args:
        table: the table of runs.
        dag_id: the Dag.
        since: the time.
        limit: maximum number of runs.
    """
    items = dynamodb.query_newest(table, "kind", f"history/{dag_id}", "name", time_text(since), limit)
    return [_run(dag_id, item) for item in items]


def _run(dag_id: str, item: Mapping[str, Any]) -> RunRecord:
    started_at, _, run_id = item["name"].partition("/")
    return RunRecord(
        dag_id,
        run_id,
        datetime.fromisoformat(started_at),
        datetime.fromisoformat(item["at"]),
        item["outcome"],
        item.get("tally", {}),
        item["partition"],
    )


def read_newest_gates(table: str, limit: int = 1000) -> list[GateRecord]:
    """The newest result of every gate, by its name."""
    items = dynamodb.query_newest(table, "kind", NEWEST, "name", "", limit)
    return sorted((_gate(item["name"], item) for item in items), key=lambda each: each.gate)


def read_gate_history(table: str, gate: str, limit: int) -> list[GateRecord]:
    """The newest results of a gate, the newest first; if a gate ran twice in a run, the last one."""
    items = dynamodb.query_newest(table, "kind", f"{NEWEST}/{gate}", "name", "", limit)
    by_run: dict[str, GateRecord] = {}
    for item in items:
        record = _gate(gate, item)
        by_run.setdefault(record.run_id, record)
    return list(by_run.values())


def _gate(gate: str, item: Mapping[str, Any]) -> GateRecord:
    return GateRecord(
        gate,
        **{name: item[name] for name in ("dag_id", "task_id", "run_id", "outcome", "report", "message")},
        started_at=datetime.fromisoformat(item["started_at"]),
        at=datetime.fromisoformat(item["at"]),
    )
