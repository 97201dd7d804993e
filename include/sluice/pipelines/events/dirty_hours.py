"""Dirty-hour markers: set on late data, cleared by the publication that includes it.

A marker has a revision, the name of the run that set it last: only a publication that has read it may clear the marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sluice.aws import dynamodb
from sluice.pipelines.events.hours import DIRTY, query_state, state_key
from sluice.pipelines.events.storage import HOUR, hour_text, parse_hour

if TYPE_CHECKING:
    from sluice.pipelines.events.batch import RawFile


@dataclass(frozen=True)
class DirtyHour:
    """Marker of a dirty hour: its raw data, or those of an hour in its deduplication window, changed after publication.

    Attributes:
        hour: start of the hour (UTC).
        revision: the run that marked it last.
        requested_by: the run that requested its processing; None for none.
        requested_at: time of the request (UTC).
        reason: what changed, one sentence.
        since: when it became dirty (UTC); None in items of older versions.
    """

    hour: datetime
    revision: str
    requested_by: str | None
    requested_at: datetime | None
    reason: str
    since: datetime | None = None


def hours_to_mark(files: Sequence[RawFile], run: str, lookback_hours: int) -> dict[datetime, str]:
    """Hours whose published rows may change by new raw files; pure.

    Args:
        files: new raw files.
        run: the run that writes them.
        lookback_hours: deduplication window; duplicates of an event may be in that many hours after it.

    Returns:
        Hour -> the reason, one sentence.
    """
    rows: dict[datetime, int] = {}
    for each in files:
        hour = parse_hour(each.hour)
        rows[hour] = rows.get(hour, 0) + each.rows
    found: dict[datetime, str] = {}
    for hour, count in sorted(rows.items()):
        found[hour] = f"events of hour {hour_text(hour)} arrived in {run}: {count}"
    for hour in list(found):
        for distance in range(1, lookback_hours + 1):
            found.setdefault(hour + distance * HOUR, f"{found[hour]}, perhaps duplicated here")
    return found


def mark_dirty(table: str, stream: str, hour: datetime, revision: str, reason: str, now: datetime) -> None:
    """Mark an hour as dirty; removes an earlier request, and keeps the time since when it is dirty."""
    update = (
        "SET revision = :revision, reason = :reason, dirty_since = if_not_exists(dirty_since, :now)"
        " REMOVE requested_by, requested_at"
    )
    values = {":revision": revision, ":reason": reason, ":now": now.isoformat()}
    dynamodb.write(dynamodb.Update(table, state_key(stream, DIRTY, hour), update, values=values))


def read_dirty_hour(table: str, stream: str, hour: datetime) -> DirtyHour | None:
    """The marker of an hour (consistent read); None if the hour is not dirty."""
    item = dynamodb.get_item(table, state_key(stream, DIRTY, hour))
    return None if item is None else _dirty_hour(item)


def list_dirty_hours(
    table: str, stream: str, first: datetime | None = None, last: datetime | None = None
) -> list[DirtyHour]:
    """Every dirty hour, the earliest first; from `first` to `last`, both included."""
    return [_dirty_hour(item) for _, item in query_state(table, stream, DIRTY, first, last)]


def _dirty_hour(item: dynamodb.Item) -> DirtyHour:
    requested_at, since = item.get("requested_at"), item.get("dirty_since")
    return DirtyHour(
        parse_hour(item["hour"]),
        item["revision"],
        item.get("requested_by"),
        datetime.fromisoformat(requested_at) if requested_at else None,
        item["reason"],
        datetime.fromisoformat(since) if since else None,
    )


def request_hour(table: str, stream: str, dirty: DirtyHour, run: str, now: datetime) -> bool:
    """Record a request on the marker; False if it was marked again meanwhile or is published."""
    update = dynamodb.Update(
        table,
        state_key(stream, DIRTY, dirty.hour),
        "SET requested_by = :run, requested_at = :now",
        condition="revision = :revision",
        values={":run": run, ":now": now.isoformat(), ":revision": dirty.revision},
    )
    return dynamodb.write(update).is_written


def claim_hour(
    table: str, stream: str, hour: datetime, revision: str, seen: str | None, run: str, now: datetime
) -> None:
    """Mark an hour as being published, so that an interrupted publication is repeated.

    Args:
        table: the DynamoDB table.
        stream: the stream.
        hour: the hour.
        revision: of the marker to write.
        seen: revision of the marker before the raw files were listed; a later marker is not changed.
        run: the run that publishes.
        now: the time (UTC).
    """
    condition = "attribute_not_exists(revision) OR revision = :own"
    values: dict[str, Any] = {
        ":own": revision,
        ":reason": f"run {run} did not finish its publication",
        ":run": run,
        ":now": now.isoformat(),
    }
    if seen is not None:
        condition += " OR revision = :seen"
        values[":seen"] = seen
    update = (
        "SET revision = :own, reason = :reason, requested_by = :run, requested_at = :now,"
        " dirty_since = if_not_exists(dirty_since, :now)"
    )
    dynamodb.write(dynamodb.Update(table, state_key(stream, DIRTY, hour), update, condition=condition, values=values))


def clear_dirty_hour(table: str, stream: str, hour: datetime, revision: str) -> bool:
    """Remove the marker of an hour, unless it was marked again; returns whether it was removed."""
    is_own = "attribute_not_exists(revision) OR revision = :revision"
    own = dynamodb.Delete(table, state_key(stream, DIRTY, hour), condition=is_own, values={":revision": revision})
    return dynamodb.write(own).is_written
