"""What is known of each published hour beside its rows: from how many raw files it was made, and by which run.

The table `events` decides which rows an hour has; its snapshots expire, and an hour without rows has none. An hour is
noted here after its commit, while it is still marked: a run that dies in between is done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sluice.aws import dynamodb
from sluice.pipelines.events.items import item_key
from sluice.pipelines.events.storage import hour_text


@dataclass(frozen=True)
class PublishedHour:
    """An hour as it was last published.

    Attributes:
        raw_files: how many raw files it was made from.
        rows: events in it.
        run: the run that published it.
        published_at: when (UTC).
    """

    raw_files: int
    rows: int
    run: str
    published_at: datetime


def _key(stream: str, hour: datetime) -> dynamodb.Item:
    return item_key(f"{stream}#hours", hour_text(hour))


def read_hour(table: str, stream: str, hour: datetime) -> PublishedHour | None:
    """An hour as of now; None when it never was published."""
    item = dynamodb.get_item(table, _key(stream, hour))
    if item is None:
        return None
    return PublishedHour(
        item["raw_files"],
        item["rows"],
        item["run"],
        datetime.fromisoformat(item["published_at"]),
    )


def write_hour(table: str, stream: str, hour: datetime, published: PublishedHour) -> None:
    """Note a publication, unless a later one is noted; one conditional write."""
    at = published.published_at.isoformat()
    item = {
        **_key(stream, hour),
        "raw_files": published.raw_files,
        "rows": published.rows,
        "run": published.run,
        "published_at": at,
    }
    is_newer = "attribute_not_exists(published_at) OR published_at <= :at"
    dynamodb.write(dynamodb.Put(table, item, condition=is_newer, values={":at": at}))


def forget_hour(table: str, stream: str, hour: datetime) -> None:
    """Remove what is known of an hour whose raw files are gone; safe to repeat."""
    dynamodb.write(dynamodb.Delete(table, _key(stream, hour)))
