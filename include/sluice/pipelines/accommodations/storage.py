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

from botocore.exceptions import ClientError

from sluice.aws import dynamodb, s3
from sluice.aws.sessions import client
from sluice.aws.threads import in_parallel
from sluice.core.run import epoch_microseconds
from sluice.errors import TerminalError
from sluice.pipelines.accommodations.records import PartnerFile

LEDGER_DAYS = 90
"""Longer than a message may wait in the queue, be a dead letter, and wait once more when it was sent back."""

CATALOGUE = {"PK": "#catalogue"}


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
    item = dynamodb.get_item(table, {"contentType": content_type})
    if item is None:
        return None
    found = item.get("partner_list", "missing")
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
        raise PriorityListError(
            f"item {content_type} of table {table}: partner_list must be a list of names, not {found};"
            f" `sluice partners {'set-priority' if content_type == 'PriorityList' else 'block'} NAME ...` writes it"
        )
    return found


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
    item = {"contentType": content_type, "partner_list": list(names)}
    new = dynamodb.Put(table, item, condition="attribute_not_exists(partner_list)")
    if before is not None:
        new = dynamodb.Put(table, item, condition="partner_list = :before", values={":before": list(before)})
    if not dynamodb.write(new).is_written:
        raise PriorityListError(
            f"someone else changed {content_type} of table {table} meanwhile: look at it with `sluice partners show`,"
            " and do it again"
        )


# DynamoDB: ledger


def find_published(table: str, files: Sequence[PartnerFile]) -> set[PartnerFile]:
    """Those of the files that were published before."""

    def is_published(file: PartnerFile) -> bool:
        return dynamodb.get_item(table, {"PK": ledger_key(file.source)}) is not None

    return {file for file, found in zip(files, in_parallel(is_published, files), strict=True) if found}


def record_published(table: str, sources: Sequence[str], number: int, at: datetime) -> None:
    """Note that files were published; the same again for a retry."""
    expiry = int((at + timedelta(days=LEDGER_DAYS)).timestamp())
    of_batch = {"batch_number": number, "TTL": expiry}
    in_parallel(
        lambda source: dynamodb.write(dynamodb.Put(table, {"PK": ledger_key(source)} | of_batch)),
        sources,
    )


def ledger_key(source: str) -> str:
    """Partition key of the item of a file that was published, by the address of its version."""
    return f"object#{source}"


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
    item = dynamodb.get_item(table, CATALOGUE)
    return _catalogue(item) if item else Catalogue()


def _catalogue(item: dynamodb.Item) -> Catalogue:
    announced = None
    if "announced" in item:
        found = item["announced"]
        announced = Announcement(
            found["run"],
            found["number"],
            found["first_microsecond"],
            datetime.fromisoformat(found["at"]),
        )
    return Catalogue(
        item["number"],
        announced,
        item.get("settled_run"),
        item.get("settled_state"),
        item["last_microsecond"],
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
        "run": run,
        "number": base + 1,
        "first_microsecond": first,
        "at": now.isoformat(),
    }
    last = max(found.last_microsecond, first + outputs - 1)
    written = dynamodb.write(
        dynamodb.Update(
            table,
            CATALOGUE,
            "SET announced = :announced, last_microsecond = :last, #number = :base",
            condition="attribute_not_exists(#number)"
            if not base and not found.last_microsecond
            else "#number = :base AND attribute_not_exists(announced)",
            values={":announced": announced, ":last": last, ":base": base},
            names={"#number": "number"},
        )
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
    dynamodb.write(
        dynamodb.Update(
            table,
            CATALOGUE,
            "SET #number = :number, settled_run = :run, settled_state = :state REMOVE announced",
            condition="announced.run = :run AND announced.#number = :number",
            values={":number": announcement.number, ":run": announcement.run, ":state": state},
            names={"#number": "number"},
        )
    )
