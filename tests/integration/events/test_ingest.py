"""From the stream to raw: every record is a row of its hour or a line of quarantine, once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest

from embedded_aws import FaultInjection
from sluice.aws import glue, kinesis, s3, sessions
from sluice.aws.tables import reading
from sluice.core import checkpoints
from sluice.core.quality import GateFailed
from sluice.pipelines.events import ingest, steps, storage
from sluice.pipelines.events.batch import IngestBatch
from sluice.pipelines.events.records import Reason

EVENT = "3f0c9f6e-3b1c-4d0e-9d0a-8a7d6c5b4a39"
CREATED_AT = 1712511721.022075  # 2024-04-07T17:42:01 UTC


def raw_keys(world: Any) -> list[str]:
    return list(s3.list_keys(world.settings.lake_bucket, storage.RAW_PREFIX))


def quarantined(world: Any) -> list[dict[str, Any]]:
    bucket = world.settings.lake_bucket
    keys = s3.list_keys(bucket, "quarantine/events/")
    return [row for key in keys for row in s3.read_json_lines(bucket, key)]


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def time_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_an_event_lands_in_its_hour_in_utc_wherever_the_machine_is(world: Any, time_zone: str) -> None:
    world.put_event(EVENT, CREATED_AT)
    late = world.ingest("run")
    (key,) = raw_keys(world)
    assert key.startswith("raw/events/year=2024/month=04/day=07/hour=17/shardId-")
    assert late[0]["conf"]["hour"] == "2024-04-07T17:00:00+00:00"
    world.process_late(late)
    (row,) = world.curated(world.hour)
    assert row["created_datetime"] == datetime(2024, 4, 7, 17, 42, 1, tzinfo=UTC)
    assert row["created_at"] == CREATED_AT
    assert (row["event_type"], row["event_subtype"], row["event_action"]) == ("account", "", "created")


def test_a_file_is_named_by_its_shard_and_first_and_last_sequence_number(world: Any) -> None:
    world.put(50, seed=1)
    world.ingest("run")
    found = world.ingested()
    for key in raw_keys(world):
        shard, number, first, last = key.rsplit("/", 1)[-1].removesuffix(".parquet").split("-")
        of_shard = [sequence for shard_id, sequence in found if shard_id == f"{shard}-{number}"]
        assert (min(of_shard), max(of_shard)) == (first, last)


def test_the_gate_lets_a_good_batch_pass_and_stops_one_that_lost_a_record(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(50, seed=1, malformed=0.2)
    steps.drain("run")
    assert steps.check_batch("run")["rows"] == 1
    transform = ingest.stage_batch

    def lossy(*arguments: Any) -> IngestBatch:
        batch = transform(*arguments)
        batch.measures.counts["accounted"] -= 1
        return batch

    monkeypatch.setattr(ingest, "stage_batch", lossy)
    steps.drain("lossy")
    with pytest.raises(GateFailed, match="accounted"):
        steps.check_batch("lossy")
    assert not raw_keys(world)


def test_malformed_records_go_to_quarantine_with_source_and_reason(world: Any) -> None:
    world.put(300, seed=5, malformed=0.4)
    steps.drain("run")
    tally = steps.publish_batch("run")
    assert tally == {
        "records_in": 300,
        "published": 300 - world.malformed,
        "duplicates": 0,
        "quarantined": world.malformed,
    }
    rows = quarantined(world)
    assert len(rows) == world.malformed
    assert set(rows[0]) == {"source", "reason", "record", "detail"}
    assert rows[0]["source"].startswith("kinesis://sluice-events/shardId-")
    reasons = Counter(row["reason"] for row in rows)
    assert {Reason.EMPTY, Reason.NOT_JSON, Reason.MISSING_FIELD, Reason.BAD_UUID, Reason.BAD_TIME} <= reasons.keys()


def test_a_record_of_a_megabyte_is_kept(world: Any) -> None:
    world.put_event(EVENT, CREATED_AT, payload="x" * (1024 * 1024 - 300))
    world.process_late(world.ingest("run"))
    (row,) = world.curated(world.hour)
    assert len(row["payload"]) == 1024 * 1024 - 300


def test_an_ingest_that_finds_nothing_writes_nothing(world: Any) -> None:
    world.put(20, seed=1)
    world.ingest("first")
    before = raw_keys(world)
    assert world.ingest("second") == []
    assert steps.check_batch("second")["rows"] == 0
    assert raw_keys(world) == before


def test_an_abandoned_batch_is_drained_again_exactly_up_to_its_end(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(30, seed=1)
    steps.drain("abandoned")
    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "commit_batch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            steps.publish_batch("abandoned")
    keys = raw_keys(world)
    world.put(30, seed=2)
    world.ingest("next")
    assert raw_keys(world) == keys, "the batch was to be written under the same names"
    world.ingest("the one after")
    world.assert_each_record_ingested_once()


def test_a_run_takes_no_more_records_than_its_limit_and_leaves_the_rest(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinesis, "PAGE_RECORDS", 100)
    monkeypatch.setattr(kinesis, "Budget", lambda _, budget=kinesis.Budget: budget(400))
    world.put(1000, seed=1)
    taken: list[int] = []
    while sum(taken) < 1000:
        run = f"run {len(taken)}"
        taken.append(steps.drain(run)["records_in"])
        steps.publish_batch(run)
        # A shard may find all reserved by another one that then has less: what is left comes in the next run.
        assert 0 < taken[-1] <= 400
    # At most one shard ends within the limit, with less than a page of what it had reserved.
    assert taken[0] > 300
    assert sum(taken) == 1000
    world.assert_each_record_ingested_once()


@pytest.mark.parametrize("service", ["kinesis", "dynamodb", "s3", "glue"])
def test_a_service_that_throttles_every_second_call_only_slows_the_ingest(
    world: Any, faults: FaultInjection, service: str
) -> None:
    faults.inject("throttle", service=service, every=2)
    world.put(50, seed=1)
    world.ingest("run")
    assert faults.injected() > 0
    faults.clear()
    world.assert_each_record_ingested_once()


@pytest.mark.parametrize(
    ("operation", "which"),
    [("TransactWriteItems", 1), ("TransactWriteItems", 2), ("UpdateItem", 1), ("CopyObject", 1), ("UpdateTable", 1)],
)
def test_an_answer_that_gets_lost_does_not_fail_the_ingest(
    world: Any, faults: FaultInjection, operation: str, which: int
) -> None:
    world.put(50, seed=1)
    steps.drain("run")
    faults.inject("drop", operation=operation, every=which, times=1)
    steps.publish_batch("run")
    assert faults.injected() == 1
    faults.clear()
    world.assert_each_record_ingested_once()


def test_an_additional_column_appears_and_older_rows_read_as_null(world: Any) -> None:
    other = str(UUID(int=7, version=4))
    world.put_event(EVENT, CREATED_AT)
    world.process_late(world.ingest("old"))
    world.put_event(other, CREATED_AT + 1, plan="gold", seats=3)
    late = world.ingest("new")
    columns = glue.table_columns(world.settings.glue_database, storage.RAW_TABLE)
    assert (columns["plan"], columns["seats"]) == ("string", "bigint")
    world.process_late(late)
    rows = {row["event_uuid"]: row for row in world.curated(world.hour)}
    assert rows[EVENT]["plan"] is None
    assert (rows[other]["plan"], rows[other]["seats"]) == ("gold", 3)
    # An hour that was published before still reads, with the column.
    before = world.hour - timedelta(hours=3)
    assert "plan" in {name for name, _, _ in reading.describe("events").columns}
    world.put_event(str(UUID(int=8, version=4)), before.timestamp())
    world.process_late(world.ingest("elsewhere"))
    assert world.curated(before)[0]["plan"] is None


def test_what_fits_no_column_is_published_as_it_came(world: Any) -> None:
    world.put_event(EVENT, CREATED_AT, seats=3)
    world.ingest("first")
    world.put_event(str(UUID(int=7, version=4)), CREATED_AT, seats="three", **{"detail-type": [1.50, None]})
    world.put_event(str(UUID(int=8, version=4)), CREATED_AT, seats=8.0)
    world.process_late(world.ingest("second"))
    assert quarantined(world) == []
    rows = sorted(world.curated(world.hour), key=lambda row: row["event_uuid"])
    assert sorted((row["seats"], row["rescued_data"]) for row in rows if row["seats"]) == [(3, None), (8, None)]
    assert [row["rescued_data"] for row in rows if row["seats"] is None] == [
        '{"seats":"three","detail-type":[1.5, null]}'
    ]


def test_a_table_and_files_older_than_rescued_data_read_as_null(world: Any) -> None:
    world.put_event(EVENT, CREATED_AT)
    world.ingest("old")
    bucket, database = world.settings.lake_bucket, world.settings.glue_database
    (file,) = storage.list_raw(bucket, world.hour)
    older = pq.read_table(BytesIO(s3.read_object(bucket, file.key).body)).drop_columns(["rescued_data"])
    pq.write_table(older, content := BytesIO())
    sessions.client("s3").put_object(Bucket=bucket, Key=file.key, Body=content.getvalue())
    table: Any = sessions.client("glue").get_table(DatabaseName=database, Name=storage.RAW_TABLE)["Table"]
    kept: Any = {key: table[key] for key in ("Name", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor")}
    columns = kept["StorageDescriptor"]["Columns"]
    kept["StorageDescriptor"]["Columns"] = [each for each in columns if each["Name"] != "rescued_data"]
    sessions.client("glue").update_table(DatabaseName=database, TableInput=kept)
    world.process("old", world.hour)
    assert world.curated(world.hour)[0].get("rescued_data") is None
    world.put_event(str(UUID(int=7, version=4)), CREATED_AT, year="2024")
    world.process_late(world.ingest("new"))
    assert sorted((row["event_uuid"] == EVENT, row["rescued_data"]) for row in world.curated(world.hour)) == [
        (False, '{"year":"2024"}'),
        (True, None),
    ]


def test_a_missing_stream_or_table_names_itself_and_the_way_out(settings: Any) -> None:
    with pytest.raises(sessions.ResourceMissing, match=r"sluice-events does not exist.*sluice deploy"):
        kinesis.list_shards("sluice-events")
    with pytest.raises(glue.CatalogError, match=r"sluice\.events does not exist.*sluice deploy"):
        glue.read_table("sluice", "events")
