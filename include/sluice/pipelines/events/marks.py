"""Marks on hours whose raw data changed: set by an ingest, settled by the publication that has seen the change.

A mark has a revision, the name of who set it last: only who knows it may settle the hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sluice.aws import dynamodb
from sluice.pipelines.events.items import item_key, query_items
from sluice.pipelines.events.storage import HOUR, hour_text, parse_hour

if TYPE_CHECKING:
    from sluice.pipelines.events.batch import RawFile


@dataclass(frozen=True)
class Touched:
    """A mark: the raw data of an hour, or of an hour that its duplicates hang on, changed since it was published.

    Attributes:
        hour: the hour.
        revision: who touched it last.
        requested_by: the run that asked for it to be processed again, None if none did.
        requested_at: when that was (UTC).
        because: what happened, for a person.
    """

    hour: datetime
    revision: str
    requested_by: str | None
    requested_at: datetime | None
    because: str


def _key(stream: str, hour: datetime) -> dynamodb.Item:
    return item_key(f"{stream}#touched", hour_text(hour))


def touched_hours(files: Sequence[RawFile], run: str, lookback_hours: int) -> dict[datetime, str]:
    """Hours whose events or duplicates may change by new raw files; pure.

    Args:
        files: new raw files.
        run: the run that writes them.
        lookback_hours: so many hours after an event its duplicates are looked for.

    Returns:
        Hour -> what happened, for a person.
    """
    rows: dict[datetime, int] = {}
    for each in files:
        hour = parse_hour(each.hour)
        rows[hour] = rows.get(hour, 0) + each.rows
    touched: dict[datetime, str] = {}
    for hour, count in sorted(rows.items()):
        touched[hour] = f"events of hour {hour_text(hour)} arrived in {run}: {count}"
    for hour in list(touched):
        for distance in range(1, lookback_hours + 1):
            touched.setdefault(hour + distance * HOUR, f"{touched[hour]}, perhaps duplicated here")
    return touched


def touch_hour(table: str, stream: str, hour: datetime, revision: str, because: str) -> None:
    """Mark an hour as touched; a request to process it that was made before counts no more."""
    dynamodb.write(dynamodb.Put(table, {**_key(stream, hour), "revision": revision, "because": because}))


def read_touched(table: str, stream: str, hour: datetime) -> Touched | None:
    """The mark of an hour as of now."""
    item = dynamodb.get_item(table, _key(stream, hour))
    return None if item is None else _touched(item)


def list_touched(table: str, stream: str) -> list[Touched]:
    """Every hour that is marked, the earliest first."""
    return [_touched(item) for item in query_items(table, f"{stream}#touched")]


def _touched(item: dynamodb.Item) -> Touched:
    requested_at = item.get("requested_at")
    return Touched(
        parse_hour(item["shard_id"]),
        item["revision"],
        item.get("requested_by"),
        datetime.fromisoformat(requested_at) if requested_at else None,
        item["because"],
    )


def request_hour(table: str, stream: str, touched: Touched, run: str, now: datetime) -> bool:
    """Note on the mark that a run asks for the hour; False when it was touched again meanwhile or is done."""
    update = dynamodb.Update(
        table,
        _key(stream, touched.hour),
        "SET requested_by = :run, requested_at = :now",
        condition="revision = :revision",
        values={":run": run, ":now": now.isoformat(), ":revision": touched.revision},
    )
    return dynamodb.write(update).is_written


def claim_hour(
    table: str, stream: str, hour: datetime, revision: str, seen: str | None, run: str, now: datetime
) -> None:
    """Mark an hour as being published, so that a publication that dies half-way is found and done again.

    Args:
        table: the DynamoDB table.
        stream: the stream.
        hour: the hour.
        revision: of the mark to write.
        seen: revision of the mark before the raw files were listed; any later mark stays as it is.
        run: the run that publishes.
        now: the time (UTC).
    """
    condition = "attribute_not_exists(revision) OR revision = :own"
    values: dict[str, Any] = {":own": revision}
    if seen is not None:
        condition += " OR revision = :seen"
        values[":seen"] = seen
    item = {
        **_key(stream, hour),
        "revision": revision,
        "because": f"run {run} did not finish its publication",
        "requested_by": run,
        "requested_at": now.isoformat(),
    }
    dynamodb.write(dynamodb.Put(table, item, condition=condition, values=values))


def settle_hour(table: str, stream: str, hour: datetime, revision: str) -> bool:
    """Remove the mark of an hour, unless it was touched again; whether it is gone."""
    is_own = "attribute_not_exists(revision) OR revision = :revision"
    own = dynamodb.Delete(table, _key(stream, hour), condition=is_own, values={":revision": revision})
    return dynamodb.write(own).is_written
