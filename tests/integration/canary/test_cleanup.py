"""A canary shares files and tables with real data: what it wrote is removed, and nothing else is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accommodations_world import a_record
from dockerhub_account import answer, key_of
from sluice.aws import kinesis, s3, sns, sqs
from sluice.aws.sessions import client
from sluice.aws.tables import reading
from sluice.core import work_queue
from sluice.lake import day_partition
from sluice.monitoring import runs
from sluice.monitoring.canary import checks, records, state, steps
from sluice.monitoring.canary.records import EVENT_HOUR, NAME, Observed
from sluice.pipelines.accommodations import steps as accommodations
from sluice.pipelines.accommodations import storage as accommodations_storage
from sluice.pipelines.accommodations.catalogue import CURRENT
from sluice.pipelines.accommodations.records import CURATED_PREFIX
from sluice.pipelines.datasets import steps as datasets
from sluice.pipelines.dockerhub import steps as dockerhub
from sluice.pipelines.dockerhub.storage import read_all_months
from sluice.pipelines.events import steps as events
from sluice.pipelines.events import storage as events_storage
from sluice.pipelines.modules import steps as modules
from sluice.pipelines.modules import storage as modules_storage
from sluice.settings import Settings

OTHER_UUID = "123e4567-e89b-42d3-a456-426614174000"


def send(settings: Settings, sent: dict[str, dict[str, str]]) -> None:
    """The records of the Dag, each with a real one in the same batch."""
    lake, landing = settings.lake_bucket, settings.landing_bucket
    s3.write_object(lake, sent["dockerhub"]["key"], sent["dockerhub"]["body"].encode())
    s3.write_object(lake, key_of("2023_09_14_150000"), answer(1, 2, "2023-09-14T15:00:00Z"))
    other = {"event_uuid": OTHER_UUID, "event_name": "a:b", "created_at": EVENT_HOUR.timestamp()}
    # By one partition key they come into one shard, so into one raw file.
    bodies = [sent["events"]["body"], json.dumps(other)]
    kinesis.put_batch(settings.events_stream, [kinesis.Entry("one", body.encode()) for body in bodies])
    for kind, more in (("message", {}), ("diagnostic", {"attempts": 1})):
        body = json.dumps({"moduleId": "real", "timestamp": 1} | more)
        sns.publish_batch(sent["modules"][f"{kind}_topic"], [sent["modules"][kind], body])
    accommodations_storage.write_list(settings.accommodations_priority_table, "PriorityList", ["A"], None)
    steps.put_partner_file(sent["accommodations"])
    s3.write_object(landing, "accommodations/real.jsonl", json.dumps(a_record("1", "A")).encode())
    for key in (records.DATASET_FILE, "datasets/real.csv"):
        s3.write_object(landing, key, sent["datasets"]["body"].encode())


def process(now: datetime) -> list[str]:
    """A run of each pipeline, but for its gate; the success rates that the canary's queue got."""
    dockerhub.publish_aggregates("run", dockerhub.collect("run", clock=lambda: now), clock=lambda: now)
    events.drain("run")
    events.publish_batch("run")
    events.register_partition("hour", EVENT_HOUR)
    events.dedup("hour")
    events.publish_hour("hour")
    collected = modules.collect("run")
    modules.store("run")
    modules.compute_rates("run")
    modules.publish_rates("run", collected)
    accommodations.collect("run")
    accommodations.consolidate("run")
    accommodations.publish("run")
    collected = datasets.collect("run")
    datasets.aggregate("run")
    datasets.publish("run", collected)
    queue = client("sqs").get_queue_url(QueueName="sluice-test-canary")["QueueUrl"]
    return [each.body for each in sqs.drain(queue, 10).messages]


def left(settings: Settings) -> dict[str, Any]:
    """What readers of the published data see."""
    lake = settings.lake_bucket
    outputs = list(s3.list_keys(lake, "curated/accommodations/"))
    return {
        "dockerhub": [name for name, *_ in read_all_months(settings.dockerhub_table)],
        "events": sorted(row["event_uuid"] for row in events_storage.read_hour(EVENT_HOUR).to_pylist()),
        "modules": sorted(reading.read(modules_storage.RATES.name)["module"].to_pylist()),
        "diagnostics": [
            each.module_id for each in modules_storage.read_all_diagnostics(settings.modules_diagnostic_table)
        ],
        "accommodations": sorted(reading.read(CURRENT.name)["accommodation_id"].to_pylist()),
        "outputs": [row["accommodation_id"] for key in outputs for row in s3.read_json_lines(lake, key)],
        "datasets": list(s3.list_keys(lake, "curated/datasets/")),
        "raw": [key for key in s3.list_keys(lake, "raw/dockerhub/") if NAME in key],
        "landing": [key for key in s3.list_keys(settings.landing_bucket, "") if NAME in key],
    }


def test_the_canary_is_found_where_readers_look_and_then_removed_alone(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_queue, "LONG_POLL_SECONDS", 0)
    now = datetime.now(UTC)
    sent = steps.prepare("canary")
    send(deployed, sent)
    messages = process(now + timedelta(minutes=1))

    for pipeline in records.DAGS:
        assert checks.find_difference(deployed, pipeline, sent[pipeline], messages) == "", pipeline
    assert checks.find_difference(deployed, "modules", sent["modules"] | {"timestamp": "1"}, messages)
    for pipeline, field in (("events", "uuid"), ("accommodations", "token"), ("datasets", "token")):
        assert checks.find_difference(deployed, pipeline, {field: "another"}), pipeline

    seen = Observed(sent_at=now, arrived_at=now + timedelta(seconds=8), messages=tuple(messages))
    hung = Observed("datasets.output")
    observed = dict.fromkeys(records.DAGS, seen) | {"datasets": hung}
    with pytest.raises(steps.CanaryFailed, match=r"^datasets: no curated/datasets/sluice-canary\.parquet after 300 s"):
        steps.verify("canary", sent, observed)
    noted = runs.read_runs(deployed.runs_table, now).canary
    assert {name: result.latency_seconds for name, result in noted.items()} == {
        name: None if name == "datasets" else 8.0 for name in records.DAGS
    }

    # As the next canary does where this one is killed here.
    steps.delete_partner_file()
    accommodations.collect("withdraw", steps.withdrawal()["withdraw"])
    accommodations.consolidate("withdraw")
    accommodations.publish("withdraw")
    removed = steps.clean_up("next", {})
    assert all(removed.values()), removed
    assert left(deployed) == {
        "dockerhub": ["localstack/localstack"],
        "events": [OTHER_UUID],
        "modules": ["real"],
        "diagnostics": ["real"],
        "accommodations": ["1"],
        "outputs": ["1"],
        "datasets": ["curated/datasets/real.parquet"],
        "raw": [],
        "landing": [],
    }
    assert not any(steps.clean_up("again", {}).values())


def test_what_is_published_after_the_cleanup_is_removed_by_the_next_one(deployed: Settings) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    lake, table = deployed.lake_bucket, deployed.runs_table
    sent = steps.prepare("canary", lambda: began)
    hung = {"accommodations": Observed("accommodations.published"), "datasets": Observed(sent_at=began)}
    steps.clean_up("canary", hung, lambda: began + timedelta(minutes=6))

    output = f"{CURATED_PREFIX}{day_partition(began)}/late.jsonl"
    s3.write_object(lake, output, sent["accommodations"]["body"].encode())
    later = began + timedelta(minutes=30)
    assert steps.clean_up_late("early", lambda: later) == {}, "a canary may be running"
    assert steps.clean_up_late("daily", lambda: later + timedelta(days=1))["accommodations"] == 1
    assert not s3.object_exists(lake, output)

    s3.write_object(lake, output, sent["accommodations"]["body"].encode())
    steps.prepare("next", lambda: later + timedelta(days=2))
    assert not s3.object_exists(lake, output), "it searches from the first canary on"
    steps.clean_up("next", {"accommodations": Observed()}, lambda: later + timedelta(days=2))
    assert state.find_open_canary(table) is None
    assert steps.clean_up_late("daily", lambda: later + timedelta(days=3)) == {}


def test_a_canary_that_hung_is_not_looked_for_without_end(deployed: Settings) -> None:
    began = datetime.now(UTC)
    steps.prepare("killed", lambda: began)
    steps.clean_up_late("daily", lambda: began + timedelta(days=7))
    assert state.find_open_canary(deployed.runs_table)
    steps.clean_up_late("daily", lambda: began + timedelta(days=8))
    assert state.find_open_canary(deployed.runs_table) is None
