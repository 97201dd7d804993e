"""The state of each hour beside its rows: how it was last published, and whether it is dirty (`dirty_hours`).

The DynamoDB table of hours has the partition key `state` and the sort key `hour`, such as `2024-04-07T17`:

* `<stream>#published`: from how many raw files the hour was published, by which run, in which snapshot;
* `<stream>#dirty`: its raw data changed since then.

The Iceberg table `events` decides which rows an hour has; its snapshots expire, and an hour without rows has none.
A publication is written here after its commit, while the hour is dirty: a run that crashes in between is done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sluice.aws import dynamodb
from sluice.pipelines.events.storage import hour_text, parse_hour

PUBLISHED, DIRTY = "published", "dirty"


@dataclass(frozen=True)
class PublishedHour:
    """An hour as it was last published.

    Attributes:
        raw_files: how many raw files it was made from.
        rows: events in it.
        run: the run that published it.
        published_at: when (UTC).
        snapshot_id: snapshot of `events` with its rows; None where it has none, or in items of older versions.
        sequence_number: that of the snapshot, by which publications are ordered; 0 where there is none.
    """

    raw_files: int
    rows: int
    run: str
    published_at: datetime
    snapshot_id: str | None = None
    sequence_number: int = 0


def state_key(stream: str, state: str, hour: datetime) -> dynamodb.Item:
    """Key of an item; the state is `PUBLISHED` or `DIRTY`."""
    return {"state": f"{stream}#{state}", "hour": hour_text(hour)}


def query_state(
    table: str, stream: str, state: str, first: datetime | None = None, last: datetime | None = None
) -> Iterator[tuple[datetime, dynamodb.Item]]:
    """Hours in a state with their items as of now, the earliest first; from `first` to `last`, both included."""
    condition, values = "#state = :state", {":state": f"{stream}#{state}"}
    names = {"#state": "state"}
    if first or last:
        condition += " AND #hour BETWEEN :first AND :last"
        values |= {":first": hour_text(first) if first else "0", ":last": hour_text(last) if last else "9"}
        names["#hour"] = "hour"
    for item in dynamodb.query_items(table, condition, values, names):
        yield parse_hour(item["hour"]), item


def read_hour(table: str, stream: str, hour: datetime) -> PublishedHour | None:
    """An hour as of now; None when it never was published."""
    item = dynamodb.get_item(table, state_key(stream, PUBLISHED, hour))
    return None if item is None else _published(item)


def list_published(
    table: str, stream: str, first: datetime | None = None, last: datetime | None = None
) -> dict[datetime, PublishedHour]:
    """Every hour that was published, the earliest first; from `first` to `last`, both included."""
    return {hour: _published(item) for hour, item in query_state(table, stream, PUBLISHED, first, last)}


def _published(item: dynamodb.Item) -> PublishedHour:
    return PublishedHour(
        item["raw_files"],
        item["rows"],
        item["run"],
        datetime.fromisoformat(item["published_at"]),
        item.get("snapshot_id"),
        item.get("sequence_number", 0),
    )


def write_hour(table: str, stream: str, hour: datetime, published: PublishedHour) -> None:
    """Note a publication, unless that of a later snapshot or from more raw files is noted; one conditional write.

    The order is that of the commits: a run may come to this line after one that published the hour since.
    """
    item = {
        **state_key(stream, PUBLISHED, hour),
        "raw_files": published.raw_files,
        "rows": published.rows,
        "run": published.run,
        "published_at": published.published_at.isoformat(),
        "sequence_number": published.sequence_number,
    }
    if published.snapshot_id is not None:
        item["snapshot_id"] = published.snapshot_id
    is_newer = "attribute_not_exists(sequence_number) OR (sequence_number <= :sequence AND raw_files <= :raw_files)"
    values = {":sequence": published.sequence_number, ":raw_files": published.raw_files}
    dynamodb.write(dynamodb.Put(table, item, condition=is_newer, values=values))


def forget_hour(table: str, stream: str, hour: datetime) -> None:
    """Remove what is known of an hour whose raw files are gone; safe to repeat."""
    dynamodb.write(dynamodb.Delete(table, state_key(stream, PUBLISHED, hour)))
