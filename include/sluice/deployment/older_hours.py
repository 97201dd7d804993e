"""Moves the state of hours of `events` from the table of checkpoints (version 1.0) to its own table."""

from __future__ import annotations

from datetime import datetime

from sluice.aws import dynamodb
from sluice.aws.dynamodb import Delete, Put
from sluice.pipelines.events.dirty_hours import mark_dirty
from sluice.pipelines.events.hours import DIRTY, PUBLISHED
from sluice.pipelines.events.storage import parse_hour
from sluice.settings import Settings

OLDER_STATES = {"hours": PUBLISHED, "touched": DIRTY}
"""Second part of the older partition key -> that of the current one."""


def move_older_hours(settings: Settings, now: datetime) -> int:
    """Move published and dirty hours into the table of hours; the newest publication of an hour stays.

    An item is deleted after it was written, and only if unchanged: it can be run again, also while a worker of the
    older version is running.

    Args:
        settings: the settings of this process.
        now: the time (UTC), recorded as the time since when the hours are dirty.

    Returns:
        Number of moved items.
    """
    older, table, stream = settings.events_checkpoint_table, settings.events_hours_table, settings.events_stream
    moved = 0
    for name, state in OLDER_STATES.items():
        version = "published_at" if state == PUBLISHED else "revision"
        key = {":stream": f"{stream}#{name}"}
        for item in dynamodb.query_items(older, "#stream = :stream", key, {"#stream": "stream"}):
            read = {":read": item[version]}
            if state == PUBLISHED:
                new = item | {"state": f"{stream}#{state}", "hour": item["shard_id"]}
                del new["stream"], new["shard_id"]
                # A worker of the older version may still publish an hour.
                condition = "attribute_not_exists(published_at) OR published_at < :read"
                dynamodb.write(Put(table, new, condition=condition, values=read))
            else:
                # With a new revision: a publication in progress has not read the data that made the hour dirty, and
                # must not clear the marker.
                revision = f"moved:{item['revision']}"
                mark_dirty(table, stream, parse_hour(item["shard_id"]), revision, item["because"], now)
            own = {"stream": item["stream"], "shard_id": item["shard_id"]}
            moved += dynamodb.write(Delete(older, own, condition=f"{version} = :read", values=read)).is_written
    return moved
