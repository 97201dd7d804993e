"""The transform as a Lambda behind Firehose (AWS only, `EventsFirehose` in infra/events.yaml): the same SQL.

Firehose hands over a buffer of records and takes back JSON for each, with the partition it belongs to; what is rejected
it writes below `quarantine/events/firehose/`. (Amazon Data Firehose developer guide, "Transform source data".)
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from sluice.core.scratch import scratch_folder
from sluice.pipelines.events.records import RAW_COLUMNS, Envelope, hour_of, record_text

MEMORY_LIMIT_MB = 512
"""About half of what the function has."""


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
    """(shard, sequence number) -> row of the records that are good."""
    import pyarrow.parquet as pq

    from sluice.pipelines.events.transform import transform_batch, write_envelopes

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    with scratch_folder("events-firehose") as folder:
        write_envelopes(envelopes, folder / "envelopes.parquet")
        # Firehose converts to the columns that the table has now and drops others: additional fields are rescued.
        result = transform_batch(
            [folder / "envelopes.parquet"], {}, folder / "out", memory_limit_mb=MEMORY_LIMIT_MB, evolve=False
        )
        for file in result.files:
            for row in pq.read_table(file.path, partitioning=None).to_pylist():
                # As OpenXJsonSerDe reads a timestamp.
                row["arrived_at"] = f"{row['arrived_at']:%Y-%m-%d %H:%M:%S.%f}"
                given = {key: value for key, value in row.items() if value is not None or key in RAW_COLUMNS}
                rows[row["shard_id"], row["sequence_number"]] = given
    return rows
