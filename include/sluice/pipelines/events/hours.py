"""State of each hour in addition to its rows: its last publication, and whether it is dirty (`dirty_hours`).

The DynamoDB table of hours has the partition key `state` and the sort key `hour`, such as `2024-04-07T17`:

* `<stream>#published`: number of raw files, run and snapshot of the publication of the hour;
* `<stream>#dirty`: its raw data changed since then.

The rows of an hour are in the Iceberg table `events`, whose snapshots expire; an hour without rows has no snapshot. A
publication is recorded here after its commit, while the hour is dirty: it is repeated after a crash in between.
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
    """Last publication of an hour.

    Attributes:
        raw_files: number of its raw files.
        rows: events in it.
        run: the run that published it.
        published_at: when (UTC).
        snapshot_id: snapshot of `events` with its rows; None for none, and in items of older versions.
        sequence_number: that of the snapshot, which orders publications; 0 for none.
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
    """Hours in a state with their items (consistent read), the earliest first; from `first` to `last`, both
    included."""
    condition, values = "#state = :state", {":state": f"{stream}#{state}"}
    names = {"#state": "state"}
    if first or last:
        condition += " AND #hour BETWEEN :first AND :last"
        values |= {":first": hour_text(first) if first else "0", ":last": hour_text(last) if last else "9"}
        names["#hour"] = "hour"
    for item in dynamodb.query_items(table, condition, values, names):
        yield parse_hour(item["hour"]), item


def read_hour(table: str, stream: str, hour: datetime) -> PublishedHour | None:
    """The last publication of an hour (consistent read); None before the first."""
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
    """Record a publication, unless one of a later snapshot or from more raw files is recorded; one conditional write.

    Publications are ordered by their commits: another run may have published the hour since this commit.
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
    """Remove the publication of an hour whose raw files were deleted; idempotent."""
    dynamodb.write(dynamodb.Delete(table, state_key(stream, PUBLISHED, hour)))
