"""What is noted of canaries in the table of runs: what the last one found, and whether records of some are left."""

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
    """Note that a canary begins to write (UTC); since when there may be records of canaries that were not removed."""
    update = "SET since = if_not_exists(since, :at), seen_at = :at"
    condition = "attribute_not_exists(seen_at) OR seen_at <= :at"
    key, values = runs.item_key(*OPEN_CANARY), {":at": runs.time_text(at)}
    written = dynamodb.write(dynamodb.Update(table, key, update, condition=condition, values=values))
    return datetime.fromisoformat(written.item["since"])


def find_open_canary(table: str) -> OpenCanary | None:
    """What `open_canary` noted; None once `close_canary` removed it."""
    item = dynamodb.get_item(table, runs.item_key(*OPEN_CANARY))
    if item is None:
        return None
    return OpenCanary(datetime.fromisoformat(item["since"]), datetime.fromisoformat(item["seen_at"]))


def close_canary(table: str, seen_at: datetime) -> None:
    """Note that no record of a canary is left, unless another one began after `seen_at` (UTC)."""
    values = {":at": runs.time_text(seen_at)}
    dynamodb.write(dynamodb.Delete(table, runs.item_key(*OPEN_CANARY), condition="seen_at <= :at", values=values))


def record_canary(table: str, pipeline: str, result: CanaryResult) -> None:
    """Note what a canary found of a pipeline."""
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
