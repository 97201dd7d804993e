"""What was rejected and corrected goes back to where its pipeline takes data from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sluice import cli
from sluice.aws import kinesis, s3, sqs
from sluice.aws.sessions import client
from sluice.lake_views.release import RECORD_BYTES, NotReleasable, release
from sluice.pipelines.datasets.records import COLUMNS
from sluice.settings import Settings

HEADER = ",".join(COLUMNS)


def events_of(stream: str) -> list[str]:
    """Every record of a stream."""
    found = []
    for shard in kinesis.list_shards(stream):
        start = client("kinesis").get_shard_iterator(
            StreamName=stream, ShardId=shard.shard_id, ShardIteratorType="TRIM_HORIZON"
        )
        answer = client("kinesis").get_records(ShardIterator=start["ShardIterator"])
        found += [record["Data"].decode() for record in answer["Records"]]
    return found


def test_each_pipeline_gets_back_what_is_released_once_however_often(deployed: Settings, tmp_path: Path) -> None:
    record = json.dumps({"partner_name": "A", "accommodation_id": "1", "accommodation_data": {}})
    once = release(deployed, "accommodations", "s3://x#line=3", record)
    assert release(deployed, "accommodations", "s3://x#line=3", record) == once
    key = once.address.removeprefix(f"s3://{deployed.landing_bucket}/")
    assert s3.read_object(deployed.landing_bucket, key).body == record.encode() + b"\n"
    assert once.dag_id == "accommodations_consolidate"

    source = f"s3://{deployed.landing_bucket}/datasets/a.csv line 3"
    assert release(deployed, "datasets", source, f"{HEADER}\n").address == source.removesuffix(" line 3")

    event = json.dumps({"event_uuid": "x", "event_name": "a", "created_at": 1.5})
    release(deployed, "events", "kinesis://x/y/1", event)
    assert events_of(deployed.events_stream) == [event]

    file = tmp_path / "corrected.json"
    file.write_text('{"moduleId": "m", "timestamp": 1}\n')
    queue = deployed.recv_message_queue
    done = CliRunner().invoke(cli.main, ["quarantine", "release", "modules", f"sqs://{queue}/id", str(file), "--yes"])
    assert done.output == f"Sent to sqs://{queue}; the next run of modules_diagnostics processes it.\n"
    (message,) = client("sqs").receive_message(QueueUrl=sqs.queue_url(queue))["Messages"]
    assert message["Body"] == '{"moduleId": "m", "timestamp": 1}'


@pytest.mark.parametrize(
    ("pipeline", "source", "text", "said"),
    [
        ("dockerhub", "", "x", "sluice airflow dags trigger dockerhub_pull"),
        ("elsewhere", "", "x", "has no quarantine"),
        ("events", "", " \n", "empty"),
        ("events", "", "x" * (RECORD_BYTES + 1), "exceed the limit"),
        ("modules", "sqs://of-another-team/1", "x", "is not a queue of modules"),
        ("modules", "nonsense", "x", "is not a queue of modules"),
        ("datasets", "https://example.com/a.csv", HEADER, "is not a CSV file"),
        ("datasets", "s3://{landing}/datasets/../x.csv line 1", HEADER, "is not a CSV file"),
        ("datasets", "s3://{landing}/accommodations/x.csv line 1", HEADER, "is not a CSV file"),
        ("datasets", "s3://{landing}/datasets/a.csv line 3", "i,c,1", "give all of it"),
    ],
)
def test_what_cannot_go_back_is_refused_with_a_way_out(
    settings: Settings, pipeline: str, source: str, text: str, said: str
) -> None:
    with pytest.raises(NotReleasable, match=said):
        release(settings, pipeline, source.format(landing=settings.landing_bucket), text)
