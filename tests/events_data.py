"""Events of the tests: records as a stream hands them over, and what parquet files say. No part of a test runner."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sluice.pipelines.events.records import Envelope
from sluice.pipelines.events.transform import TransformResult, transform_batch, write_envelopes

CREATED_AT = 1712511721.022075
ARRIVED_AT = datetime(2024, 4, 7, 17, 42, 2, 500000, UTC)
SHARD = "shardId-000000000000"
ABSENT = object()


def uuid_of(number: int) -> str:
    return str(uuid.UUID(int=number))


def event(number: int = 1, **fields: Any) -> str:
    """A valid event as JSON text, with other or further fields; `ABSENT` takes one away."""
    document = {"event_uuid": uuid_of(number), "event_name": "account:created", "created_at": CREATED_AT, **fields}
    return json.dumps({name: value for name, value in document.items() if value is not ABSENT})


def envelopes(records: Iterable[str], shard_id: str = SHARD, arrived_at: datetime = ARRIVED_AT) -> list[Envelope]:
    return [Envelope(shard_id, str(10**55 + number), arrived_at, record) for number, record in enumerate(records)]


def transformed(
    folder: Path, batch: Sequence[Envelope], known: dict[str, str] | None = None, **options: Any
) -> TransformResult:
    """The batch through the transform; `options` as of `transform_batch`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_envelopes(batch, folder / "envelopes.parquet")
    return transform_batch([folder / "envelopes.parquet"], known or {}, folder / "out", memory_limit_mb=256, **options)


def rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Rows of parquet files, in their order."""
    import pyarrow.parquet as pq

    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def rejections(result: TransformResult) -> list[dict[str, str]]:
    if result.rejected_path is None:
        return []
    with result.rejected_path.open() as lines:  # str.splitlines would also split on U+2028 and the like
        return [json.loads(line) for line in lines]
