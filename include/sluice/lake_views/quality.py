"""Gates: the newest result of each, and the history of one as a grid of runs and expectations."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from typing import Any

from sluice import lake
from sluice.aws import s3
from sluice.aws.threads import in_parallel
from sluice.errors import TerminalError
from sluice.lake_views.overview import gate_document
from sluice.monitoring import history
from sluice.monitoring.history import GateRecord
from sluice.settings import Settings

RUNS_SHOWN = 20
"""Number of runs in the grid of a gate."""

ORDER = (history.FAILED, history.WARNED, history.PASSED)


class GateUnknown(TerminalError):
    """No result of a gate of this name exists."""


def read_newest(settings: Settings, dag_ids: Container[str]) -> list[GateRecord]:
    """The newest result of every gate of some Dags: failed ones first, then warned ones, then the latest."""
    found = [gate for gate in history.read_newest_gates(settings.runs_table) if gate.dag_id in dag_ids]
    return sorted(found, key=lambda gate: (ORDER.index(gate.outcome), -gate.at.timestamp()))


def read_newest_documents(settings: Settings, dag_ids: Container[str]) -> list[dict[str, Any]]:
    """The result of `read_newest` as plain values, with failed expectations in words (`broken`: `expected`,
    `found`)."""
    found = read_newest(settings, dag_ids)
    reports = in_parallel(lambda gate: None if gate.outcome == history.PASSED else read_report(settings, gate), found)
    return [gate_document(gate) | {"broken": broken(report)} for gate, report in zip(found, reports, strict=True)]


def broken(report: dict[str, Any] | None) -> list[dict[str, str]]:
    """Failed expectations of a report, each in words and with its finding."""
    return [
        {
            "expected": each.get("expected") or each["expectation"],
            "found": each.get("found") or each["observed"],
            "severity": each["severity"],
        }
        for each in (report or {}).get("findings", [])
        if not each["passed"]
    ]


def read_gate(settings: Settings, gate: str, run_id: str = "", limit: int = RUNS_SHOWN) -> dict[str, Any]:
    """The newest results of a gate, its grid, and the report of one run.

    Args:
        settings: the settings of this process.
        gate: `<pipeline>/<step>`.
        run_id: the run of the report; the newest one if "".
        limit: number of newest runs to read.

    Raises:
        GateUnknown: the gate has no result, or none of that run among the newest.
    """
    records = history.read_gate_history(settings.runs_table, gate, limit)
    if not records:
        raise GateUnknown(
            f"gate {gate!r} has not run in the last 90 days: `sluice quality list` shows gates with results"
        )
    chosen = next((each for each in records if run_id in ("", each.run_id)), None)
    if chosen is None:
        raise GateUnknown(f"run {run_id!r} is not among the last {len(records)} of gate {gate}")
    reports = in_parallel(lambda each: read_report(settings, each), records)
    return {
        "gate": gate,
        "runs": [gate_document(each) for each in records],
        "grid": grid(reports),
        "chosen": gate_document(chosen),
        "report": reports[records.index(chosen)],
        "places": places(settings, chosen),
    }


def read_report(settings: Settings, record: GateRecord) -> dict[str, Any] | None:
    """The stored report of a gate's run; None after its expiry."""
    try:
        body = s3.read_object(settings.lake_bucket, report_key(record, "json")).body
    except s3.ObjectMissing:
        return None
    found: dict[str, Any] = json.loads(body)
    return found


def report_key(record: GateRecord, suffix: str) -> str:
    """Key of the report of a gate's run, from its address; `suffix` is `json` or `html`."""
    key = record.report.partition("://")[2].partition("/")[2]
    return key.removesuffix("html") + suffix if key else lake.quality_key(record.gate, record.run_id, suffix)


def places(settings: Settings, record: GateRecord) -> dict[str, str]:
    """Keys of the data of a gate's run in the lake bucket: `staging`, `quarantine` and `report`."""
    run, pipeline = report_key(record, "").rpartition("/")[2].rstrip("."), record.gate.partition("/")[0]
    return {
        "bucket": settings.lake_bucket,
        "staging": f"staging/{pipeline}/{run}/",
        "quarantine": f"quarantine/{pipeline}/{run}/",
        "report": report_key(record, "html"),
    }


def grid(reports: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """For each expectation the outcome of each run: `passed`, `warned`, `failed`, or "" if it was not checked."""
    rows: dict[str, dict[str, Any]] = {}
    for place, report in enumerate(reports):
        for finding in (report or {}).get("findings", []):
            title = finding.get("expected") or finding["expectation"]
            row = rows.setdefault(
                finding["expectation"], {"expected": title, "severity": finding["severity"], "outcomes": {}}
            )
            row["outcomes"][place] = outcome_of(finding)
    return [
        row | {"outcomes": [row["outcomes"].get(place, "") for place in range(len(reports))]} for row in rows.values()
    ]


def outcome_of(finding: dict[str, Any]) -> str:
    """`passed`, `warned` or `failed`."""
    if finding["passed"]:
        return history.PASSED
    return history.FAILED if finding["severity"] == "critical" else history.WARNED
