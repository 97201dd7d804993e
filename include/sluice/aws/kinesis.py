"""Kinesis: list shards, read records from a sequence number, and put records in batches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from sluice.aws.retries import until_done
from sluice.aws.sessions import client, error_code
from sluice.errors import SluiceError, TerminalError

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import PutRecordsRequestEntryTypeDef

log = logging.getLogger(__name__)

PAGE_RECORDS = 10_000
"""Maximum number of records of one GetRecords; AWS also ends an answer at 10 MiB (API reference, GetRecords)."""

BATCH_RECORDS = 500
BATCH_BYTES = 5 * 1024 * 1024
RECORD_BYTES = 1024 * 1024
"""Limits of PutRecords: records and bytes of a request, bytes of a record, each with its partition key."""

PAUSE_SECONDS = 0.2
"""Pause after a read of a shard without records: a shard may be read five times a second."""

EXPIRED_IN_A_ROW = 5
EMPTY_IN_A_ROW = 10
PUT_ATTEMPTS = 10
PUT_FIRST_PAUSE_SECONDS = 0.1


class IteratorsExpire(SluiceError):
    """Every iterator of a shard expired before it could be used."""


class PutFailed(SluiceError):
    """Kinesis refused records in every attempt."""


class RecordTooLarge(TerminalError):
    """A record exceeds the limit of Kinesis."""


class Shard(NamedTuple):
    """A shard and the shards that it was split or merged from."""

    shard_id: str
    parents: tuple[str, ...] = ()


class StreamRecord(NamedTuple):
    """One record of a shard; `arrived_at` in UTC, milliseconds."""

    sequence_number: str
    arrived_at: datetime
    data: bytes


class Page(NamedTuple):
    """Records of one response, perhaps none; `closed` if they are the last ones of a closed shard."""

    records: list[StreamRecord]
    closed: bool


class Entry(NamedTuple):
    """A record to put."""

    partition_key: str
    data: bytes

    @property
    def size_bytes(self) -> int:
        """Size that Kinesis counts."""
        return len(self.partition_key.encode()) + len(self.data)


class Budget:
    """Number of records that the readers of all shards may still read in total.

    An equal share is reserved for each reader until its first page, so that a shard with a long backlog cannot use up
    all before the others begin: each reads one page at least, or its share if that is smaller.
    """

    def __init__(self, records: int) -> None:
        self._records = records
        self._share = self._expected = 0
        self._lock = threading.Lock()

    def expect(self, readers: int) -> None:
        """Reserve an equal share of the remaining records for each reader that is about to begin."""
        with self._lock:
            self._expected = readers
            self._share = self._records // readers if readers else 0

    def take(self, wanted: int, *, is_first: bool = False) -> int:
        """Reserve up to `wanted` records; 0 if none are left. `is_first`: the first call of an expected reader."""
        with self._lock:
            if is_first and self._expected:
                self._expected -= 1
            taken = min(wanted, max(0, self._records - self._share * self._expected))
            self._records -= taken
            return taken

    def give_back(self, records: int) -> None:
        """Return reserved records that were not read."""
        with self._lock:
            self._records += records


def list_shards(stream: str) -> list[Shard]:
    """Every shard of the stream, closed ones too; a parent that was trimmed is left out.

    Raises:
        ResourceMissing: no such stream.
    """
    kinesis = client("kinesis")
    pages = [kinesis.list_shards(StreamName=stream)]
    # Not by the paginator: it sends name and token together, and AWS accepts only one of them.
    while token := pages[-1].get("NextToken"):
        pages.append(kinesis.list_shards(NextToken=token))
    found = [shard for page in pages for shard in page["Shards"]]
    known = {shard["ShardId"] for shard in found}
    return [
        Shard(
            shard["ShardId"],
            tuple(
                parent
                for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                if parent is not None and parent in known
            ),
        )
        for shard in found
    ]


def read_pages(
    stream: str, shard_id: str, *, after: str | None, until: str | None = None, budget: Budget | None = None
) -> Iterator[Page]:
    """Records of a shard, from a sequence number (exclusive) to the newest one.

    An expired iterator is renewed after the last record read. If `after` was trimmed, reading starts at the oldest
    record available, with a warning.

    Args:
        stream: name of the stream.
        shard_id: the shard.
        after: sequence number before the first record to read; None to start at the oldest.
        until: sequence number of the last record to read; None for all.
        budget: limit of records over all shards.

    Raises:
        IteratorsExpire: several iterators in a row expired unused.
    """
    kinesis = client("kinesis")
    last = after
    expired = 0
    is_first = True
    iterator: str | None = _iterator(stream, shard_id, after)
    while iterator:
        limit = budget.take(PAGE_RECORDS, is_first=is_first) if budget else PAGE_RECORDS
        is_first = False
        if not limit:
            return
        try:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=limit)
        except ClientError as error:
            if error_code(error) != "ExpiredIteratorException":
                raise
            if budget:
                budget.give_back(limit)
            expired += 1
            if expired == EXPIRED_IN_A_ROW:
                raise IteratorsExpire(
                    f"Kinesis stream {stream}, {shard_id}: {expired} iterators in a row expired before they were used;"
                    " is this machine's clock right, or is it stalled?"
                ) from None
            iterator = _iterator(stream, shard_id, last)
            continue
        expired = 0
        if budget:
            budget.give_back(limit - len(answer["Records"]))
        records = [
            StreamRecord(
                each["SequenceNumber"], each["ApproximateArrivalTimestamp"].astimezone(UTC), bytes(each["Data"])
            )
            for each in answer["Records"]
        ]
        iterator = answer.get("NextShardIterator")
        if until is not None:
            wanted = [each for each in records if int(each.sequence_number) <= int(until)]
            if len(wanted) < len(records) or (wanted and int(wanted[-1].sequence_number) == int(until)):
                # Whether the shard has more records is unknown here; the next run reads on.
                yield Page(wanted, closed=False)
                return
        if records:
            last = records[-1].sequence_number
        yield Page(records, closed=iterator is None)
        if answer.get("MillisBehindLatest", 0) == 0 and (until is None or not records):
            return
        if not records:
            time.sleep(PAUSE_SECONDS)


def waiting_seconds(stream: str, shard_id: str, *, after: str | None, now: datetime) -> float:
    """Age in seconds of the oldest record after a sequence number in its shard; 0 if there is none.

    Args:
        stream: name of the stream.
        shard_id: the shard.
        after: sequence number of the last record read; None before the first.
        now: the time (UTC).
    """
    iterator: str | None = _iterator(stream, shard_id, after)
    behind_milliseconds = 0
    # A shard may return empty responses before its next record.
    for _ in range(EMPTY_IN_A_ROW):
        if iterator is None:
            return 0.0
        answer = client("kinesis").get_records(ShardIterator=iterator, Limit=1)
        if answer["Records"]:
            return max(0.0, (now - answer["Records"][0]["ApproximateArrivalTimestamp"]).total_seconds())
        behind_milliseconds = answer.get("MillisBehindLatest", 0)
        if not behind_milliseconds:
            return 0.0
        iterator = answer.get("NextShardIterator")
    return behind_milliseconds / 1000


def _iterator(stream: str, shard_id: str, after: str | None) -> str:
    kinesis = client("kinesis")
    if after is not None:
        try:
            return kinesis.get_shard_iterator(
                StreamName=stream,
                ShardId=shard_id,
                ShardIteratorType="AFTER_SEQUENCE_NUMBER",
                StartingSequenceNumber=after,
            )["ShardIterator"]
        except ClientError as error:
            if error_code(error) != "InvalidArgumentException":
                raise
            log.warning(
                "RECORDS MAY BE LOST: stream %s, %s has no sequence number %s any more (%s);"
                " reading on from the oldest record available",
                *(stream, shard_id, after, error),
            )
    return kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Split entries into batches for PutRecords: at most 500 records and 5 MiB, keys included.

    Raises:
        RecordTooLarge: an entry is larger than 1 MiB with its key.
    """
    batch: list[Entry] = []
    size_bytes = 0
    for entry in entries:
        if entry.size_bytes > RECORD_BYTES:
            raise RecordTooLarge(
                f"record with key {entry.partition_key!r} has {entry.size_bytes} bytes, the limit is {RECORD_BYTES};"
                " send it in parts, or put it into S3 and send its address"
            )
        if batch and (len(batch) == BATCH_RECORDS or size_bytes + entry.size_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(entry)
        size_bytes += entry.size_bytes
    if batch:
        yield batch


def put_batch(stream: str, batch: list[Entry]) -> int:
    """Put one batch; refused entries are sent again after a growing pause.

    Returns:
        Number of entries sent again.

    Raises:
        PutFailed: some were refused ten times.
        ResourceMissing: no such stream.
    """
    kinesis = client("kinesis")
    waiting: list[PutRecordsRequestEntryTypeDef] = [
        {"PartitionKey": entry.partition_key, "Data": entry.data} for entry in batch
    ]
    sent_again = 0
    reason = ""

    def put() -> bool | None:
        nonlocal waiting, sent_again, reason
        answer = kinesis.put_records(StreamName=stream, Records=waiting)
        if not answer.get("FailedRecordCount"):
            return True
        refused = [
            (entry, result) for entry, result in zip(waiting, answer["Records"], strict=True) if result.get("ErrorCode")
        ]
        waiting = [entry for entry, _ in refused]
        reason = f"{refused[0][1]['ErrorCode']}: {refused[0][1].get('ErrorMessage', '')}"
        sent_again += len(waiting)
        return None

    if not until_done(put, attempts=PUT_ATTEMPTS, first_pause_seconds=PUT_FIRST_PAUSE_SECONDS):
        raise PutFailed(
            f"Kinesis stream {stream} refused {len(waiting)} of {len(batch)} records {PUT_ATTEMPTS} times ({reason});"
            " send slower, or give the stream more shards"
        )
    return sent_again
