"""Moves the state of hours of `events` out of the table of checkpoints, where version 1.0 kept it."""

from __future__ import annotations

from sluice.aws import dynamodb
from sluice.aws.dynamodb import Delete, Put
from sluice.pipelines.events.hours import DIRTY, PUBLISHED
from sluice.settings import Settings

OLDER_STATES = {"hours": PUBLISHED, "touched": DIRTY}
"""Second part of the older partition key -> that of today's."""

OLDER_ATTRIBUTES = {"because": "reason"}


def move_older_hours(settings: Settings) -> int:
    """Move published and dirty hours into the table of hours; an hour that the table has stays as it is there.

    An item is deleted after it was written, and only as it was read: it can be run again, also beside a worker of the
    older version.

    Returns:
        How many items were moved.
    """
    older, table, stream = settings.events_checkpoint_table, settings.events_hours_table, settings.events_stream
    moved = 0
    for name, state in OLDER_STATES.items():
        key = {":stream": f"{stream}#{name}"}
        # A worker of the older version may still publish an hour; what a worker of this one marked stays.
        version, is_new = ("published_at", "published_at < :read") if state == PUBLISHED else ("revision", "")
        condition = " OR ".join(filter(None, (f"attribute_not_exists({version})", is_new)))
        for item in dynamodb.query_items(older, "#stream = :stream", key, {"#stream": "stream"}):
            read = {":read": item[version]}
            new = {OLDER_ATTRIBUTES.get(each, each): value for each, value in item.items()}
            new |= {"state": f"{stream}#{state}", "hour": new.pop("shard_id")}
            del new["stream"]
            dynamodb.write(Put(table, new, condition=condition, values=read if is_new else {}))
            own = {"stream": item["stream"], "shard_id": item["shard_id"]}
            moved += dynamodb.write(Delete(older, own, condition=f"{version} = :read", values=read)).is_written
    return moved
