"""State of canaries in the table of runs: the results of the last one, and whether records may exist."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sluice.aws import dynamodb
from sluice.monitoring import runs
from sluice.monitoring.runs import CanaryResult

OPEN_CANARY = ("canary-open", "since")


@dataclass(frozen=True)
class OpenCanary:
    """Records of canaries may be in published data.

    Attributes:
        since: when the first of these canaries began (UTC).
        seen_at: when a canary last began or removed records (UTC).
    """

    since: datetime
    seen_at: datetime


def open_canary(table: str, at: datetime) -> datetime:
    """Record that a canary begins to write; returns the time (UTC) since when records of canaries may exist."""
    update = "SET since = if_not_exists(since, :at), seen_at = :at"
    condition = "attribute_not_exists(seen_at) OR seen_at <= :at"
    key, values = runs.item_key(*OPEN_CANARY), {":at": runs.time_text(at)}
    written = dynamodb.write(dynamodb.Update(table, key, update, condition=condition, values=values))
    return datetime.fromisoformat(written.item["since"])


def find_open_canary(table: str) -> OpenCanary | None:
    """The state recorded by `open_canary`; None after `close_canary`."""
    item = dynamodb.get_item(table, runs.item_key(*OPEN_CANARY))
    if item is None:
        return None
    return OpenCanary(datetime.fromisoformat(item["since"]), datetime.fromisoformat(item["seen_at"]))


def close_canary(table: str, seen_at: datetime) -> None:
    """Record that no record of a canary exists, unless another one began after `seen_at` (UTC)."""
    values = {":at": runs.time_text(seen_at)}
    dynamodb.write(dynamodb.Delete(table, runs.item_key(*OPEN_CANARY), condition="seen_at <= :at", values=values))


def record_canary(table: str, pipeline: str, result: CanaryResult) -> None:
    """Record the result of a canary for a pipeline."""
    values: dict[str, Any] = {
        ":at": runs.time_text(result.at),
        ":run": result.run_id,
        ":failure": result.failure[: runs.MESSAGE_MAX_CHARACTERS],
    }
    update = "SET ended_at = :at, run_id = :run, failure = :failure"
    if result.latency_seconds is None:
        update += " REMOVE latency_seconds"
    else:
        update += ", latency_seconds = :latency"
        values[":latency"] = Decimal(f"{result.latency_seconds:.3f}")
    runs.update_unless_older(table, "canary", pipeline, update, "ended_at", values)
