"""Rejected records: counts by pipeline, reason and day, and the records themselves, from the newest files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from heapq import nlargest
from typing import Any

from sluice.aws import s3, sqs
from sluice.aws.sessions import ResourceMissing, client
from sluice.aws.threads import in_parallel
from sluice.lake_views.files import whole_lines
from sluice.monitoring.pipelines import pipelines as pipelines_of
from sluice.settings import Settings

PAGE_KEYS = 1000
PAGES_LISTED = 50
"""Maximum files of one list request, and requests for a pipeline. S3 lists by key, not by time: to find the newest
files, all files of the retention (90 days) are listed."""

ENDING = ".jsonl"

FILES_READ = 40
FILE_BYTES = 512 * 1024
"""Maximum newest files of a pipeline that are read, and bytes of each."""

RECORDS_SHOWN = 100
RECORD_CHARACTERS = 20_000
"""Maximum characters of a record that are shown; a longer one is cut, and can be downloaded."""


@dataclass(frozen=True)
class QuarantineFile:
    """A file of rejected records: its key, size, when it was stored (UTC)."""

    key: str
    size_bytes: int
    stored_at: datetime

    @property
    def day(self) -> str:
        """`2026-11-21`, in UTC."""
        return f"{self.stored_at:%Y-%m-%d}"

    @property
    def run(self) -> str:
        """The run as a part of a key; for events the shard."""
        return self.key.split("/")[2]


@dataclass(frozen=True)
class Rejected:
    """A rejected record, with its file."""

    file: QuarantineFile
    pipeline: str
    reason: str
    source: str
    detail: str
    record: Any


@dataclass(frozen=True)
class Newest:
    """The newest rejected records of a pipeline.

    Attributes:
        records: of the files that were read, the newest file first.
        days: of all files that were listed.
        is_whole: whether these are all matching records.
        is_listed: whether all files were listed; if not, newer ones may exist than those that were read.
    """

    records: list[Rejected]
    days: set[str]
    is_whole: bool
    is_listed: bool


def read_newest(settings: Settings, pipeline: str, day: str = "", key: str = "") -> Newest:
    """The newest rejected records of a pipeline, from a bounded number of files.

    Args:
        settings: the settings of this process.
        pipeline: the pipeline.
        day: only files of that day (UTC); "" for all.
        key: only this file; "" for all.
    """
    files: list[QuarantineFile] = []
    days: set[str] = set()
    is_listed = is_whole = True
    for page in _one_file(settings, key) if key else _pages(settings, pipeline):
        if page is None:
            is_listed = False
            break
        days.update(file.day for file in page)
        wanted = [file for file in page if day in ("", file.day)]
        is_whole = is_whole and len(files) + len(wanted) <= FILES_READ
        is_whole = is_whole and all(file.size_bytes <= FILE_BYTES for file in wanted)
        files = nlargest(FILES_READ, [*files, *wanted], key=lambda file: (file.stored_at, file.key))
    found = in_parallel(partial(_read_file, settings, pipeline), files)
    return Newest([record for records in found for record in records], days, is_whole and is_listed, is_listed)


def _one_file(settings: Settings, key: str) -> Iterator[list[QuarantineFile]]:
    found = s3.find_object(settings.lake_bucket, key)
    if found and found.size_bytes and key.endswith(ENDING):
        yield [QuarantineFile(key, found.size_bytes, found.last_modified)]


def _pages(settings: Settings, pipeline: str) -> Iterator[list[QuarantineFile] | None]:
    """Files of a pipeline in the order of their keys, a page at a time; None if there are more than the maximum."""
    pages = client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(
        Bucket=settings.lake_bucket, Prefix=f"quarantine/{pipeline}/", PaginationConfig={"PageSize": PAGE_KEYS}
    )
    for number, page in enumerate(found, 1):
        yield [
            QuarantineFile(each["Key"], each["Size"], each["LastModified"])
            for each in page.get("Contents", [])
            if each["Size"] and each["Key"].endswith(ENDING)
        ]
        if number == PAGES_LISTED and page.get("IsTruncated"):
            yield None
            return


def _read_file(settings: Settings, pipeline: str, file: QuarantineFile) -> list[Rejected]:
    text = s3.read_head(settings.lake_bucket, file.key, FILE_BYTES).decode(errors="replace")
    return parse(pipeline, file, whole_lines(text, is_whole=file.size_bytes <= FILE_BYTES))


def parse(pipeline: str, file: QuarantineFile, lines: Iterable[str]) -> list[Rejected]:
    """Records of the lines of a quarantine file; an invalid line becomes a record with its own reason."""
    found = []
    for line in lines:
        try:
            fields = json.loads(line)
            reason, source, detail = (str(fields.get(name) or "") for name in ("reason", "source", "detail"))
            record = fields.get("record")
        except (ValueError, AttributeError):
            reason, source, detail = "unreadable", "", "the line of the quarantine file is not a JSON object"
            record = line
        found.append(Rejected(file, pipeline, reason, source, detail, record))
    return found


def read_quarantine(
    settings: Settings, pipelines: Sequence[str], *, pipeline: str = "", reason: str = "", day: str = "", key: str = ""
) -> dict[str, Any]:
    """Counts of the newest rejected records, and those that match, as plain values.

    Args:
        settings: the settings of this process.
        pipelines: those that the user may read.
        pipeline: only its records; "" for all.
        reason: only records of that reason; "" for all.
        day: only records of that day (UTC); "" for all.
        key: only records of that file; "" for all.
    """
    asked = [name for name in pipelines if pipeline in ("", name)]
    found = dict(zip(asked, in_parallel(lambda name: read_newest(settings, name, day, key), asked), strict=True))
    records = [record for newest in found.values() for record in newest.records]
    matching = [record for record in records if reason in ("", record.reason)]
    matching.sort(key=lambda record: record.file.stored_at, reverse=True)
    return {
        "bucket": settings.lake_bucket,
        "counts": counts(records),
        "pipelines": list(pipelines),
        "days": sorted({day for newest in found.values() for day in newest.days}, reverse=True),
        "is_whole": all(newest.is_whole for newest in found.values()),
        "is_listed": all(newest.is_listed for newest in found.values()),
        "files_listed": PAGE_KEYS * PAGES_LISTED,
        "matching": len(matching),
        "dead_letters": read_dead_letters(settings, asked),
        "records": [record_document(record) for record in matching[:RECORDS_SHOWN]],
    }


def read_dead_letters(settings: Settings, names: Sequence[str]) -> list[dict[str, Any]]:
    """Dead-letter queues with messages of some pipelines, and the number of messages."""
    queues = [
        (pipeline.name, queue)
        for pipeline in pipelines_of(settings)
        if pipeline.name in names
        for queue in pipeline.queues
    ]
    found = in_parallel(lambda each: _waiting(each[1] + sqs.DEAD_LETTERS), queues)
    return [
        {"pipeline": pipeline, "queue": queue + sqs.DEAD_LETTERS, "messages": messages}
        for (pipeline, queue), messages in zip(queues, found, strict=True)
        if messages
    ]


def _waiting(queue: str) -> int:
    try:
        return sum(sqs.queue_counts(queue))
    except ResourceMissing:
        return 0


def counts(records: Iterable[Rejected]) -> list[dict[str, Any]]:
    """Records by pipeline, reason and day, the most frequent first."""
    counted = Counter((record.pipeline, record.reason, record.file.day) for record in records)
    return [
        {"pipeline": pipeline, "reason": reason, "day": day, "records": count}
        for (pipeline, reason, day), count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    ]


def record_document(record: Rejected) -> dict[str, Any]:
    """A rejected record as plain values."""
    text = record.record if isinstance(record.record, str) else json.dumps(record.record, ensure_ascii=False)
    return {
        "pipeline": record.pipeline,
        "reason": record.reason,
        "detail": record.detail,
        "source": record.source,
        "record": text[:RECORD_CHARACTERS],
        "is_cut": len(text) > RECORD_CHARACTERS,
        "key": record.file.key,
        "stored_at": record.file.stored_at.isoformat(),
    }
