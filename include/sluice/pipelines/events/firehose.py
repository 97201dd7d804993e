"""The transform as a Lambda behind Firehose (AWS only, `EventsFirehose` in infra/events.yaml): the same SQL.

Firehose sends a buffer of records and receives JSON for each, with its partition; it writes rejected ones below
`quarantine/events/firehose/`. (Amazon Data Firehose developer guide, "Transform source data".)
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from sluice.core.scratch import scratch_folder
from sluice.pipelines.events.records import RAW_COLUMNS, Envelope, hour_of, record_text

MEMORY_LIMIT_MB = 512
"""About half of the memory of the function."""


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 Lambda's signature
    """Answer a Firehose transformation request: `Ok` with the row as JSON, or `ProcessingFailed` and the record."""
    envelopes = [_envelope(each) for each in event["records"]]
    rows = _transform(envelopes)
    answers = []
    for record, envelope in zip(event["records"], envelopes, strict=True):
        row = rows.get((envelope.shard_id, envelope.sequence_number))
        answer = {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
        if row is not None:
            hour = hour_of(row["created_at"])
            answer["result"] = "Ok"
            answer["data"] = base64.b64encode((json.dumps(row, ensure_ascii=False) + "\n").encode()).decode()
            answer["metadata"] = {
                "partitionKeys": {
                    "year": f"{hour:%Y}",
                    "month": f"{hour:%m}",
                    "day": f"{hour:%d}",
                    "hour": f"{hour:%H}",
                }
            }
        answers.append(answer)
    return {"records": answers}


def _envelope(record: dict[str, Any]) -> Envelope:
    source = record["kinesisRecordMetadata"]
    arrived_at = datetime.fromtimestamp(source["approximateArrivalTimestamp"] / 1000, UTC)
    text = record_text(base64.b64decode(record["data"]))
    return Envelope(source["shardId"], source["sequenceNumber"], arrived_at, text)


def _transform(envelopes: list[Envelope]) -> dict[tuple[str, str], dict[str, Any]]:
    """(shard, sequence number) -> row of each accepted record."""
    import pyarrow.parquet as pq

    from sluice.pipelines.events.transform import transform_batch, write_envelopes

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    with scratch_folder("events-firehose") as folder:
        write_envelopes(envelopes, folder / "envelopes.parquet")
        # Firehose drops fields without a column in the table: additional fields are rescued.
        result = transform_batch(
            [folder / "envelopes.parquet"], {}, folder / "out", memory_limit_mb=MEMORY_LIMIT_MB, evolve=False
        )
        for file in result.files:
            for row in pq.read_table(file.path, partitioning=None).to_pylist():
                # Format of a timestamp for OpenXJsonSerDe.
                row["arrived_at"] = f"{row['arrived_at']:%Y-%m-%d %H:%M:%S.%f}"
                given = {key: value for key, value in row.items() if value is not None or key in RAW_COLUMNS}
                rows[row["shard_id"], row["sequence_number"]] = given
    return rows
