"""Reads and writes of the pipeline, one service a function: S3 (partners' files) and DynamoDB (lists, ledger).

The ledger table holds two kinds of items (partition key `PK`):

* `object#<address and version>`, a published file; expires after `LEDGER_DAYS`;
* `#catalogue`: the number of the last published batch, and the announced batch.
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
"""Longer than the retention of a message in the queue, as a dead letter, and in the queue again after a redrive."""

CATALOGUE = {"PK": "#catalogue"}


class PriorityListError(TerminalError):
    """The priority list is missing, empty or not a list of names; the rule cannot be applied without it."""


class BatchTaken(TerminalError):
    """Another run has announced or published a batch since this one began."""


# S3


def find_file(bucket: str, key: str) -> PartnerFile | None:
    """The current version of an object; None if it was deleted."""
    try:
        found = client("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    return PartnerFile(bucket, key, found.get("VersionId", "null"), found["LastModified"], int(found["ContentLength"]))


def fetch_files(files: Sequence[PartnerFile], folder: Path) -> list[Path]:
    """Fetch exactly these versions in parallel; each file is named by its index."""
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
    """A list of partners (consistent read); None if the item does not exist.

    Args:
        table: the priority table.
        content_type: `PriorityList` or `BlockedList`.

    Raises:
        PriorityListError: the item is not a list of names.
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
    """The priority list, best partner first, and the blocked partners (consistent read).

    Raises:
        PriorityListError: the priority list is missing or empty, or one of the two is not a list of names.
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
        PriorityListError: it was changed since it was read as `before`.
    """
    item = {"contentType": content_type, "partner_list": list(names)}
    new = dynamodb.Put(table, item, condition="attribute_not_exists(partner_list)")
    if before is not None:
        new = dynamodb.Put(table, item, condition="partner_list = :before", values={":before": list(before)})
    if not dynamodb.write(new).is_written:
        raise PriorityListError(
            f"{content_type} of table {table} was changed meanwhile: check it with `sluice partners show`,"
            " and repeat the command"
        )


# DynamoDB: ledger


def find_published(table: str, files: Sequence[PartnerFile]) -> set[PartnerFile]:
    """The files that were published before."""

    def is_published(file: PartnerFile) -> bool:
        return dynamodb.get_item(table, {"PK": ledger_key(file.source)}) is not None

    return {file for file, found in zip(files, in_parallel(is_published, files), strict=True) if found}


def record_published(table: str, sources: Sequence[str], number: int, at: datetime) -> None:
    """Record that files were published; idempotent."""
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
class AnnouncedBatch:
    """An announced batch: any run that reads it completes its publication, under the same names.

    Attributes:
        run: the run whose staging holds it.
        number: of the batch.
        first_microsecond: name of its first output file; the others are numbered consecutively.
        at: when it was announced (UTC).
    """

    run: str
    number: int
    first_microsecond: int
    at: datetime


@dataclass(frozen=True)
class Catalogue:
    """State of the publications.

    Attributes:
        number: of the last published batch; 0 before the first.
        announced: the announced batch, if any.
        committed_run: the run of the last published batch.
        committed_state: state of the two tables and of the lists after it (`catalogue.Tables.state`).
        last_microsecond: the greatest reserved name of an output file.
    """

    number: int = 0
    announced: AnnouncedBatch | None = None
    committed_run: str | None = None
    committed_state: str | None = None
    last_microsecond: int = 0


def read_catalogue(table: str) -> Catalogue:
    """The state of the publications (consistent read)."""
    item = dynamodb.get_item(table, CATALOGUE)
    return _catalogue(item) if item else Catalogue()


def _catalogue(item: dynamodb.Item) -> Catalogue:
    announced = None
    if "announced" in item:
        found = item["announced"]
        announced = AnnouncedBatch(
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


def announce_batch(table: str, run: str, base: int, outputs: int, now: datetime) -> AnnouncedBatch | None:
    """Announce a batch: reserve its number and the names of its output files, before its first write.

    Args:
        table: the ledger table.
        run: the run as a part of a key.
        base: number of the batch on whose tables this one is based.
        outputs: number of output files.
        now: the time (UTC), which names them unless these names are reserved already.

    Returns:
        The announced batch, also if an earlier attempt announced it; None if it is published already.

    Raises:
        BatchTaken: another run has announced or published a batch since.
    """
    found = read_catalogue(table)
    if found.announced and found.announced.run == run:
        return found.announced
    # Not a new batch of that run, which would be based on its own previous one.
    if found.committed_run == run and base < found.number:
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
    # If the response is lost, the client retries and finds the batch already announced.
    found = _catalogue(written.item)
    if not found.announced or found.announced.run != run:
        raise _taken(run, found)
    return found.announced


def _taken(run: str, found: Catalogue) -> BatchTaken:
    other = f"run {found.announced.run} is publishing" if found.announced else f"batch {found.number} came meanwhile"
    return BatchTaken(
        f"batch of run {run} was not published: {other}. Nothing is lost; its messages are delivered again to the next"
        " run"
    )


def commit_batch(table: str, announced: AnnouncedBatch, state: str) -> None:
    """Mark the announced batch as published, after its last write and the deletion of its messages.

    No change if another worker has done so already.

    Args:
        table: the ledger table.
        announced: the announced batch.
        state: of the two tables and the lists after it (`catalogue.Tables.state`).
    """
    dynamodb.write(
        dynamodb.Update(
            table,
            CATALOGUE,
            "SET #number = :number, settled_run = :run, settled_state = :state REMOVE announced",
            condition="announced.run = :run AND announced.#number = :number",
            values={":number": announced.number, ":run": announced.run, ":state": state},
            names={"#number": "number"},
        )
    )
