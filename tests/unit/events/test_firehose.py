"""The Lambda behind Firehose gives what events_ingest gives, in the shape that Firehose takes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from sluice.pipelines.events.firehose import handler
from sluice_dev.samples.events import Traffic, generate

ARRIVED_MS = 1712520000123


def record(number: int, data: bytes) -> dict[str, object]:
    return {
        "recordId": f"record-{number}",
        "data": base64.b64encode(data).decode(),
        "kinesisRecordMetadata": {
            "shardId": "shardId-000000000001",
            "sequenceNumber": str(number),
            "approximateArrivalTimestamp": ARRIVED_MS,
            "partitionKey": "key",
        },
    }


def test_a_good_record_comes_back_as_a_row_with_its_partition() -> None:
    data = (
        b'{"event_uuid":"3F0C9F6E-3B1C-4D0E-9D0A-8A7D6C5B4A39","event_name":"a:b:c",'
        b'"created_at":1712511721.022075,"n":1}'
    )
    (answer,) = handler({"records": [record(1, data)]}, None)["records"]
    assert answer["recordId"] == "record-1"
    assert answer["result"] == "Ok"
    assert answer["metadata"]["partitionKeys"] == {"year": "2024", "month": "04", "day": "07", "hour": "17"}
    assert json.loads(base64.b64decode(answer["data"])) == {
        "event_uuid": "3f0c9f6e-3b1c-4d0e-9d0a-8a7d6c5b4a39",
        "event_name": "a:b:c",
        "created_at": 1712511721.022075,
        "created_datetime": "2024-04-07T17:42:01Z",
        "event_type": "a",
        "event_subtype": "b",
        "event_action": "c",
        "arrived_at": "2024-04-07 20:00:00.123000",
        "shard_id": "shardId-000000000001",
        "sequence_number": "1",
        "rescued_data": '{"n":1}',
    }


def test_every_record_is_answered_in_order_and_malformed_ones_unchanged() -> None:
    start = datetime(2024, 4, 7, 17, tzinfo=UTC)
    generated = list(generate(Traffic(200, start, start + timedelta(hours=1), malformed=0.3, seed=1)))
    records = [record(number, each.entry.data) for number, each in enumerate(generated)]
    answers = handler({"records": records}, None)["records"]
    assert [answer["recordId"] for answer in answers] == [each["recordId"] for each in records]
    for each, sent, answer in zip(generated, records, answers, strict=True):
        assert (answer["result"] == "ProcessingFailed") == (each.kind == "malformed")
        if answer["result"] != "Ok":
            assert answer["data"] == sent["data"]


def test_an_empty_buffer_is_answered() -> None:
    assert handler({"records": []}, None) == {"records": []}


def test_the_lambda_needs_no_package_but_those_of_its_zip() -> None:
    """`make package` installs duckdb, msgspec, pyarrow and pytz with this project."""
    program = """
import sys
for name in ("boto3", "botocore", "dotenv", "pydantic", "pydantic_settings", "click", "rich", "tenacity", "airflow"):
    sys.modules[name] = None
from sluice.pipelines.events.firehose import handler
metadata = {"shardId": "s", "sequenceNumber": "1", "approximateArrivalTimestamp": 1, "partitionKey": "k"}
record = {"recordId": "r", "data": "e30=", "kinesisRecordMetadata": metadata}
(answer,) = handler({"records": [record]}, None)["records"]
assert answer["recordId"] == "r", answer
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
