"""What the pipeline reads and writes, one service a function: S3 (partners' files) and DynamoDB (lists, ledger).

The ledger table holds, beside each other (partition key `PK`):

* `object#<address and version>`, a file that was published; forgotten after `LEDGER_DAYS`;
* `#catalogue`: the number of the batch that was published last, and the batch that is being published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from sluice.aws import dynamodb, s3
from sluice.aws.sessions import client, error_code
from sluice.aws.threads import in_parallel
from sluice.errors import TerminalError
from sluice.pipelines.accommodations.records import PartnerFile, epoch_microseconds

LEDGER_DAYS = 90
"""Longer than a message may wait in the queue, be a dead letter, and wait once more when it was sent back."""

CATALOGUE = {"PK": {"S": "#catalogue"}}


class PriorityListError(TerminalError):
    """The priority list is missing, empty or no list of names; nothing can be decided without it."""


class BatchTaken(TerminalError):
    """Another run is publishing, or has published, since this one began."""


# S3


def find_file(bucket: str, key: str) -> PartnerFile | None:
    """The object under a key as it is now; None where it was deleted."""
    try:
        found = client("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    return PartnerFile(bucket, key, found.get("VersionId", "null"), found["LastModified"], int(found["ContentLength"]))


def fetch_files(files: Sequence[PartnerFile], folder: Path) -> list[Path]:
    """Fetch just these versions, side by side; each is named by its place."""
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(place: tuple[int, PartnerFile]) -> Path:
        index, file = place
        path = folder / f"{index:06d}"
        version = {"VersionId": file.version_id} if file.version_id != "null" else {}
        client("s3").download_file(file.bucket, file.key, str(path), ExtraArgs=version, Config=s3.TRANSFER)
        return path

    return in_parallel(fetch, enumerate(files))


# DynamoDB: lists


def read_list(table: str, content_type: str) -> list[str] | None:
    """A list of partners as of now, None where there is no such item.

    Args:
        table: the priority table.
        content_type: `PriorityList` or `BlockedList`.

    Raises:
        PriorityListError: the item is no list of names.
    """
    answer = client("dynamodb").get_item(TableName=table, Key={"contentType": {"S": content_type}}, ConsistentRead=True)
    if "Item" not in answer:
        return None
    found = answer["Item"].get("partner_list", {})
    names = [each.get("S") for each in found.get("L", [])]
    if "L" not in found or not all(names):
        raise PriorityListError(
            f"item {content_type} of table {table}: partner_list must be a list of names, not {found or 'missing'};"
            f" `sluice partners {'set-priority' if content_type == 'PriorityList' else 'block'} NAME ...` writes it"
        )
    return [str(name) for name in names]


def read_lists(table: str) -> tuple[list[str], list[str]]:
    """The priority list, best partner first, and the blocked partners, as of now.

    Raises:
        PriorityListError: there is no priority list, it is empty, or one of the two is no list of names.
    """
    priority = read_list(table, "PriorityList")
    if not priority:
        state = "is empty" if priority is not None else "is missing"
        raise PriorityListError(
            f"the priority list {state} (item PriorityList of table {table}): no record can be preferred to another."
            " The messages stay in the queue; `sluice partners set-priority NAME ...` writes it"
        )
    return priority, read_list(table, "BlockedList") or []


def write_list(table: str, content_type: str, names: Sequence[str], before: Sequence[str] | None) -> None:
    """Replace a list; one conditional write.

    Raises:
        PriorityListError: someone else changed it since it was read as `before`.
    """
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(partner_list)"}
    if before is not None:
        condition = {
            "ConditionExpression": "partner_list = :before",
            "ExpressionAttributeValues": {":before": {"L": [{"S": name} for name in before]}},
        }
    try:
        client("dynamodb").put_item(
            TableName=table,
            Item={"contentType": {"S": content_type}, "partner_list": {"L": [{"S": name} for name in names]}},
            **condition,
        )
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise
        raise PriorityListError(
            f"someone else changed {content_type} of table {table} meanwhile: look at it with `sluice partners show`,"
            " and do it again"
        ) from None


# DynamoDB: ledger


def find_published(table: str, files: Sequence[PartnerFile]) -> set[PartnerFile]:
    """Those of the files that were published before."""

    def is_published(file: PartnerFile) -> bool:
        return "Item" in client("dynamodb").get_item(TableName=table, Key=_ledger_key(file.source), ConsistentRead=True)

    return {file for file, found in zip(files, in_parallel(is_published, files), strict=True) if found}


def record_published(table: str, sources: Sequence[str], number: int, at: datetime) -> None:
    """Note that files were published; the same again for a retry."""
    expiry = {"N": str(int((at + timedelta(days=LEDGER_DAYS)).timestamp()))}
    in_parallel(
        lambda source: client("dynamodb").put_item(
            TableName=table, Item=_ledger_key(source) | {"batch_number": {"N": str(number)}, "TTL": expiry}
        ),
        sources,
    )


def ledger_key(source: str) -> str:
    """Partition key of the item of a file that was published, by the address of its version."""
    return f"object#{source}"


def _ledger_key(source: str) -> Any:
    return {"PK": {"S": ledger_key(source)}}


# DynamoDB: catalogue


@dataclass(frozen=True)
class Announcement:
    """A batch that a run began to publish; whoever finds it publishes it to its end, under the same names.

    Attributes:
        run: the run whose staging holds it.
        number: of the batch.
        first_microsecond: name of its first output file; the others follow by one.
        at: when it was announced (UTC).
    """

    run: str
    number: int
    first_microsecond: int
    at: datetime


@dataclass(frozen=True)
class Catalogue:
    """What counts now.

    Attributes:
        number: of the batch that was published last; 0 before the first.
        announced: the batch that is being published, if any.
        settled_run: the run whose batch was published to its end last.
        settled_state: state of the two tables and of the lists then (`catalogue.Tables.state`).
        last_microsecond: the greatest name of an output file that was reserved.
    """

    number: int = 0
    announced: Announcement | None = None
    settled_run: str | None = None
    settled_state: str | None = None
    last_microsecond: int = 0


def read_catalogue(table: str) -> Catalogue:
    """What counts now."""
    item = client("dynamodb").get_item(TableName=table, Key=CATALOGUE, ConsistentRead=True).get("Item")
    return _catalogue(item) if item else Catalogue()


def _catalogue(item: Any) -> Catalogue:
    announced = None
    if "announced" in item:
        found = item["announced"]["M"]
        announced = Announcement(
            found["run"]["S"],
            int(found["number"]["N"]),
            int(found["first_microsecond"]["N"]),
            datetime.fromisoformat(found["at"]["S"]),
        )
    return Catalogue(
        int(item["number"]["N"]),
        announced,
        item.get("settled_run", {}).get("S"),
        item.get("settled_state", {}).get("S"),
        int(item["last_microsecond"]["N"]),
    )


def announce(table: str, run: str, base: int, outputs: int, now: datetime) -> Announcement | None:
    """Reserve the next number and the names of the output files, before anything of the batch is written.

    Args:
        table: the ledger table.
        run: the run as a part of a key.
        base: number of the batch whose tables this one was made on.
        outputs: number of output files.
        now: the time (UTC), which names them unless names of that time are taken.

    Returns:
        The announcement, that of an earlier try where there was one; None when the batch was published to its end.

    Raises:
        BatchTaken: another run is publishing or has published since.
    """
    found = read_catalogue(table)
    if found.announced and found.announced.run == run:
        return found.announced
    # Not a new batch of that run, which is made on the one that it published before.
    if found.settled_run == run and base < found.number:
        return None
    if found.number != base or found.announced:
        raise _taken(run, found)
    first = max(epoch_microseconds(now), found.last_microsecond + 1)
    announced = {
        "run": {"S": run},
        "number": {"N": str(base + 1)},
        "first_microsecond": {"N": str(first)},
        "at": {"S": now.isoformat()},
    }
    last = max(found.last_microsecond, first + outputs - 1)
    written = dynamodb.update_where(
        table,
        CATALOGUE,
        "SET announced = :announced, last_microsecond = :last, #number = :base",
        "attribute_not_exists(#number)"
        if not base and not found.last_microsecond
        else "#number = :base AND attribute_not_exists(announced)",
        {":announced": {"M": announced}, ":last": {"N": str(last)}, ":base": {"N": str(base)}},
        {"#number": "number"},
    )
    # An answer that got lost makes the client ask again, and then the announcement stands there already.
    found = _catalogue(written.item)
    if not found.announced or found.announced.run != run:
        raise _taken(run, found)
    return found.announced


def _taken(run: str, found: Catalogue) -> BatchTaken:
    other = f"run {found.announced.run} is publishing" if found.announced else f"batch {found.number} came meanwhile"
    return BatchTaken(
        f"batch of run {run} was not published: {other}. Nothing is lost; its messages come back, and the next run"
        " takes them"
    )


def settle(table: str, announcement: Announcement, state: str) -> None:
    """Take the announcement back, now that all of the batch is published and its messages are deleted.

    Nothing to do where another worker has published it to its end.

    Args:
        table: the ledger table.
        announcement: of the batch.
        state: of the two tables and of the lists that they were made under.
    """
    dynamodb.update_where(
        table,
        CATALOGUE,
        "SET #number = :number, settled_run = :run, settled_state = :state REMOVE announced",
        "announced.run = :run AND announced.#number = :number",
        {":number": {"N": str(announcement.number)}, ":run": {"S": announcement.run}, ":state": {"S": state}},
        {"#number": "number"},
    )
