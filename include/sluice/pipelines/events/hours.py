"""What is known of each published hour beside its rows: from how many raw files it was made, and by which run.

The table `events` decides which rows an hour has; its snapshots expire, and an hour without rows has none. An hour is
noted here after its commit, while it is still marked: a run that dies in between is done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from sluice.aws.sessions import client, error_code
from sluice.pipelines.events.items import item_key, read_item
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


def _key(stream: str, hour: datetime) -> dict[str, Any]:
    return item_key(f"{stream}#hours", hour_text(hour))


def read_hour(table: str, stream: str, hour: datetime) -> PublishedHour | None:
    """An hour as of now; None when it never was published."""
    item = read_item(table, _key(stream, hour))
    if item is None:
        return None
    return PublishedHour(
        int(item["raw_files"]["N"]),
        int(item["rows"]["N"]),
        item["run"]["S"],
        datetime.fromisoformat(item["published_at"]["S"]),
    )


def write_hour(table: str, stream: str, hour: datetime, published: PublishedHour) -> None:
    """Note a publication, unless a later one is noted; one conditional write."""
    try:
        client("dynamodb").put_item(
            TableName=table,
            Item={
                **_key(stream, hour),
                "raw_files": {"N": str(published.raw_files)},
                "rows": {"N": str(published.rows)},
                "run": {"S": published.run},
                "published_at": {"S": published.published_at.isoformat()},
            },
            ConditionExpression="attribute_not_exists(published_at) OR published_at <= :at",
            ExpressionAttributeValues={":at": {"S": published.published_at.isoformat()}},
        )
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise


def forget_hour(table: str, stream: str, hour: datetime) -> None:
    """Remove what is known of an hour whose raw files are gone; safe to repeat."""
    client("dynamodb").delete_item(TableName=table, Key=_key(stream, hour))
