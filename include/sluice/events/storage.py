"""What the pipeline reads and writes, one service a function: S3 (staging, raw, curated) and DynamoDB.

One table holds, beside each other (partition key `stream`, sort key `shard_id`):

* `<stream>`, a shard: its checkpoint, and where a batch that is being published will move it to;
* `<stream>#hours`, an hour as `2024-04-07T17`: the publication that readers see;
* `<stream>#touched`, an hour: its raw data changed since it was published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sluice import lake, s3
from sluice.aws import client
from sluice.errors import SluiceError
from sluice.events import PIPELINE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

RAW_TABLE = "raw_events"
CURATED_TABLE = "events"
"""Names in the Glue database (infra/events.yaml)."""

RAW_PREFIX = f"raw/{PIPELINE}/"
CURATED_PREFIX = f"curated/{PIPELINE}/"

TRANSACTION_ITEMS = 100


# Hours


def hour_partition(hour: datetime) -> str:
    """`year=YYYY/month=MM/day=DD/hour=HH/` of an hour in UTC."""
    return f"{lake.day_partition(hour)}/hour={hour.hour:02d}/"


def partition_values(hour: datetime) -> list[str]:
    """Values of the partition keys `year`, `month`, `day`, `hour`, zero-padded."""
    return [f"{hour.year:04d}", f"{hour.month:02d}", f"{hour.day:02d}", f"{hour.hour:02d}"]


def hour_text(hour: datetime) -> str:
    """`2024-04-07T17`; sorts by time."""
    return f"{hour:%Y-%m-%dT%H}"


def parse_hour(text: str) -> datetime:
    """The hour of `hour_text`, or of any ISO 8601 time in it; a time without a zone is UTC.

    Raises:
        ValueError: it is no time.
    """
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(minute=0, second=0, microsecond=0)


# S3


def list_raw(bucket: str, hour: datetime) -> list[s3.ListedObject]:
    """Raw files of an hour."""
    return s3.list_objects(bucket, RAW_PREFIX + hour_partition(hour))


# DynamoDB: checkpoints


class BatchTaken(SluiceError):
    """Another run has published records of this batch, or is about to."""


@dataclass(frozen=True)
class Checkpoint:
    """How far a shard was ingested.

    Attributes:
        sequence_number: of the last record that is in `raw/` or in quarantine; None before the first.
        pending_until: last record of a batch that a run began to publish; the next run drains just that batch again.
        closed: no record will follow.
        published_by: run that moved the checkpoint here.
        pending_run: run that announced the batch last.
    """

    sequence_number: str | None = None
    pending_until: str | None = None
    closed: bool = False
    published_by: str | None = None
    pending_run: str | None = None


@dataclass(frozen=True)
class ShardBatch:
    """The records of one shard in a batch.

    Attributes:
        shard_id: the shard.
        after: the checkpoint it was read from.
        first: sequence number of the first record, None when there is none.
        last: sequence number that the checkpoint moves to, None when it stays where it is.
        records: how many.
        closed: the shard ends here.
    """

    shard_id: str
    after: str | None
    first: str | None
    last: str | None
    records: int
    closed: bool

    @property
    def file_name(self) -> str:
        """Name of everything that this batch leads to, without a suffix; the same for the same records."""
        return f"{self.shard_id}-{self.first}-{self.last}"


def read_checkpoints(table: str, stream: str) -> dict[str, Checkpoint]:
    """Shard id -> checkpoint, as of now."""
    return {
        item["shard_id"]["S"]: Checkpoint(
            item.get("sequence_number", {}).get("S"),
            item.get("pending_until", {}).get("S"),
            item.get("closed", {}).get("BOOL", False),
            item.get("published_by", {}).get("S"),
            item.get("pending_run", {}).get("S"),
        )
        for item in _query(table, stream)
    }


def announce_batch(table: str, stream: str, run: str, shards: Sequence[ShardBatch]) -> bool:
    """Write down how far a batch reaches before anything of it is written; all shards or none.

    A run that finds it drains exactly these records again, so that the files have the same names.

    Returns:
        False when the batch is published already: a retry of this very run.

    Raises:
        BatchTaken: another run has moved a checkpoint, or announced another batch, since this one was drained.
    """
    found = read_checkpoints(table, stream)
    if shards and all(_is_published(found.get(each.shard_id, Checkpoint()), each, run) for each in shards):
        return False
    writes: list[TransactWriteItemTypeDef] = []
    for each in shards:
        values: dict[str, Any] = {":run": {"S": run}}
        unchanged = "attribute_not_exists(sequence_number)"
        if each.after is not None:
            unchanged = "sequence_number = :after"
            values[":after"] = {"S": each.after}
        update, free = "SET pending_run = :run", "attribute_not_exists(pending_until)"
        if each.last is not None and each.last != each.after:
            values[":last"] = {"S": each.last}
            update += ", pending_until = :last"
            free = f"({free} OR pending_until = :last)"
        writes.append(_update(table, stream, each.shard_id, update, f"{unchanged} AND {free}", values))
    if not _transact(writes):
        # An answer that got lost makes the client ask again, and then the batch stands there already.
        found = read_checkpoints(table, stream)
        if any(found.get(each.shard_id, Checkpoint()).pending_run != run for each in shards):
            raise BatchTaken(
                f"batch of run {run} cannot be published: another run took records of stream {stream} that are in it;"
                " nothing is lost, the next run goes on from the checkpoint"
            )
    return True


def commit_batch(table: str, stream: str, run: str, shards: Sequence[ShardBatch]) -> None:
    """Move the checkpoints, now that all of the batch is durable; all shards or none.

    Raises:
        BatchTaken: another run has moved one of them.
    """
    writes: list[TransactWriteItemTypeDef] = []
    for each in shards:
        values: dict[str, Any] = {":run": {"S": run}}
        sets = ["published_by = :run"]
        condition = "attribute_not_exists(sequence_number)"
        if each.after is not None:
            condition = "sequence_number = :after"
            values[":after"] = {"S": each.after}
        if each.last is not None and each.last != each.after:
            sets.append("sequence_number = :last")
            values[":last"] = {"S": each.last}
            condition += " AND pending_until = :last"
        if each.closed:
            sets.append("closed = :closed")
            values[":closed"] = {"BOOL": True}
        update = f"SET {', '.join(sets)} REMOVE pending_until, pending_run"
        writes.append(_update(table, stream, each.shard_id, update, condition, values))
    if not _transact(writes):
        found = read_checkpoints(table, stream)
        if not all(_is_published(found.get(each.shard_id, Checkpoint()), each, run) for each in shards):
            raise BatchTaken(
                f"checkpoints of stream {stream} were moved by another run while {run} published;"
                " nothing is lost, the next run goes on from the checkpoint"
            )


def _is_published(found: Checkpoint, batch: ShardBatch, run: str) -> bool:
    return found.published_by == run and found.sequence_number == batch.last and found.pending_until is None


def _update(
    table: str, pk: str, sk: str, update: str, condition: str, values: dict[str, Any]
) -> TransactWriteItemTypeDef:
    request: dict[str, Any] = {
        "TableName": table,
        "Key": {"stream": {"S": pk}, "shard_id": {"S": sk}},
        "UpdateExpression": update,
        "ConditionExpression": condition,
    }
    if values:
        request["ExpressionAttributeValues"] = values
    return {"Update": request}  # type: ignore[typeddict-item]


def _transact(writes: Sequence[TransactWriteItemTypeDef]) -> bool:
    """Write all items, or none when a condition does not hold; more than a hundred go in several transactions."""
    dynamodb = client("dynamodb")
    for start in range(0, len(writes), TRANSACTION_ITEMS):
        try:
            dynamodb.transact_write_items(TransactItems=writes[start : start + TRANSACTION_ITEMS])
        except dynamodb.exceptions.TransactionCanceledException as error:
            codes = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
            # A conflict is a transaction of another run on one of the items in this very moment.
            if not codes & {"ConditionalCheckFailed", "TransactionConflict"}:
                raise
            return False
    return True


# DynamoDB: hours


@dataclass(frozen=True)
class Publication:
    """The version of an hour that readers see.

    Attributes:
        number: grows by one with each publication of the hour.
        version: name of its folder, `<number>-<hash of the files>`; "" when the hour has no data.
        raw_files: how many raw files of the hour it was made from.
        rows: events in it.
        superseded: version -> when another took its place (UTC); not yet removed.
    """

    number: int = 0
    version: str = ""
    raw_files: int = 0
    rows: int = 0
    superseded: tuple[tuple[str, datetime], ...] = ()


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


class HourTaken(SluiceError):
    """Another run published the hour meanwhile."""


def read_publication(table: str, stream: str, hour: datetime) -> Publication:
    """The publication of an hour as of now; number 0 when it never was published."""
    item = _get(table, f"{stream}#hours", hour_text(hour))
    if item is None:
        return Publication()
    return Publication(
        int(item["number"]["N"]),
        item["version"]["S"],
        int(item["raw_files"]["N"]),
        int(item["rows"]["N"]),
        tuple(
            (version, datetime.fromisoformat(at["S"]))
            for version, at in sorted(item.get("superseded", {}).get("M", {}).items())
        ),
    )


def write_publication(
    table: str, stream: str, hour: datetime, publication: Publication, run: str, now: datetime
) -> None:
    """Record the next publication of an hour; one conditional write.

    Raises:
        HourTaken: another run has recorded one of this number.
    """
    dynamodb = client("dynamodb")
    try:
        dynamodb.put_item(
            TableName=table,
            Item={
                "stream": {"S": f"{stream}#hours"},
                "shard_id": {"S": hour_text(hour)},
                "number": {"N": str(publication.number)},
                "version": {"S": publication.version},
                "raw_files": {"N": str(publication.raw_files)},
                "rows": {"N": str(publication.rows)},
                "superseded": {"M": {version: {"S": at.isoformat()} for version, at in publication.superseded}},
                "run": {"S": run},
                "published_at": {"S": now.isoformat()},
            },
            ConditionExpression="attribute_not_exists(#number)" if publication.number == 1 else "#number = :before",
            ExpressionAttributeNames={"#number": "number"},
            **({} if publication.number == 1 else _values({":before": {"N": str(publication.number - 1)}})),
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        raise HourTaken(f"hour {hour_text(hour)}: another run recorded publication {publication.number}") from None


def _values(values: dict[str, Any]) -> dict[str, Any]:
    return {"ExpressionAttributeValues": values}


def supersede(table: str, stream: str, hour: datetime, version: str, now: datetime) -> None:
    """Note that readers may hold a version until now, because the catalog still pointed at it."""
    client("dynamodb").update_item(
        TableName=table,
        Key={"stream": {"S": f"{stream}#hours"}, "shard_id": {"S": hour_text(hour)}},
        UpdateExpression="SET superseded.#version = :now",
        ConditionExpression="attribute_exists(superseded)",
        ExpressionAttributeNames={"#version": version},
        ExpressionAttributeValues={":now": {"S": now.isoformat()}},
    )


def forget_superseded(table: str, stream: str, hour: datetime, versions: Sequence[str]) -> None:
    """Drop versions that were removed from the list of an hour."""
    names = {f"#v{index}": version for index, version in enumerate(versions)}
    client("dynamodb").update_item(
        TableName=table,
        Key={"stream": {"S": f"{stream}#hours"}, "shard_id": {"S": hour_text(hour)}},
        UpdateExpression="REMOVE " + ", ".join(f"superseded.{name}" for name in names),
        ExpressionAttributeNames=names,
    )


def touch_hour(table: str, stream: str, hour: datetime, revision: str, because: str) -> None:
    """Mark an hour as touched; a request to process it that was made before counts no more."""
    client("dynamodb").put_item(
        TableName=table,
        Item={
            "stream": {"S": f"{stream}#touched"},
            "shard_id": {"S": hour_text(hour)},
            "revision": {"S": revision},
            "because": {"S": because},
        },
    )


def read_touched(table: str, stream: str, hour: datetime) -> Touched | None:
    """The mark of an hour as of now."""
    item = _get(table, f"{stream}#touched", hour_text(hour))
    return None if item is None else _touched(item)


def list_touched(table: str, stream: str) -> list[Touched]:
    """Every hour that is marked, the earliest first."""
    return [_touched(item) for item in _query(table, f"{stream}#touched")]


def _touched(item: dict[str, Any]) -> Touched:
    requested_at = item.get("requested_at", {}).get("S")
    return Touched(
        parse_hour(item["shard_id"]["S"]),
        item["revision"]["S"],
        item.get("requested_by", {}).get("S"),
        datetime.fromisoformat(requested_at) if requested_at else None,
        item["because"]["S"],
    )


def request_hour(table: str, stream: str, touched: Touched, run: str, now: datetime) -> bool:
    """Note on the mark that a run asks for the hour; False when it was touched again meanwhile or is done."""
    dynamodb = client("dynamodb")
    try:
        dynamodb.update_item(
            TableName=table,
            Key={"stream": {"S": f"{stream}#touched"}, "shard_id": {"S": hour_text(touched.hour)}},
            UpdateExpression="SET requested_by = :run, requested_at = :now",
            ConditionExpression="revision = :revision",
            ExpressionAttributeValues={
                ":run": {"S": run},
                ":now": {"S": now.isoformat()},
                ":revision": {"S": touched.revision},
            },
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True


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
    dynamodb = client("dynamodb")
    condition = "attribute_not_exists(revision) OR revision = :own"
    values: dict[str, Any] = {":own": {"S": revision}}
    if seen is not None:
        condition += " OR revision = :seen"
        values[":seen"] = {"S": seen}
    try:
        dynamodb.put_item(
            TableName=table,
            Item={
                "stream": {"S": f"{stream}#touched"},
                "shard_id": {"S": hour_text(hour)},
                "revision": {"S": revision},
                "because": {"S": f"run {run} did not finish its publication"},
                "requested_by": {"S": run},
                "requested_at": {"S": now.isoformat()},
            },
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return


def settle_hour(table: str, stream: str, hour: datetime, revision: str) -> bool:
    """Remove the mark of an hour, unless it was touched again; whether it is gone."""
    dynamodb = client("dynamodb")
    try:
        dynamodb.delete_item(
            TableName=table,
            Key={"stream": {"S": f"{stream}#touched"}, "shard_id": {"S": hour_text(hour)}},
            ConditionExpression="attribute_not_exists(revision) OR revision = :revision",
            ExpressionAttributeValues={":revision": {"S": revision}},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True


def _get(table: str, pk: str, sk: str) -> dict[str, Any] | None:
    answer = client("dynamodb").get_item(
        TableName=table, Key={"stream": {"S": pk}, "shard_id": {"S": sk}}, ConsistentRead=True
    )
    return answer.get("Item")


def _query(table: str, pk: str) -> Iterator[dict[str, Any]]:
    """Items of one partition key as of now, following every page."""
    pages = (
        client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=table,
            KeyConditionExpression="#stream = :pk",
            ExpressionAttributeNames={"#stream": "stream"},
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )
    )
    for page in pages:
        yield from page["Items"]


# Versions of an hour


def version_prefix(hour: datetime, version: str) -> str:
    """Folder of one version of an hour."""
    return f"{CURATED_PREFIX}{hour_partition(hour)}version={version}/"


def expired_versions(
    folders: Iterable[str], publication: Publication, now: datetime, retention: timedelta
) -> list[str]:
    """Versions that no reader holds any more; pure.

    Args:
        folders: versions that have a folder.
        publication: the current publication.
        now: the time (UTC).
        retention: how long a reader may hold a version after another took its place.

    Returns:
        Versions superseded for longer than the retention, and those that were never published and never will be: their
        number is taken. A version of a higher number than the current is being published.
    """
    superseded = dict(publication.superseded)
    expired = []
    for version in folders:
        number = int(version.partition("-")[0])
        if version == publication.version or number > publication.number:
            continue
        if version not in superseded or superseded[version] + retention <= now:
            expired.append(version)
    return expired
