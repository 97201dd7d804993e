"""What an older version published in its own layout is in the tables afterwards, and once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from accommodations_world import TABLES, a_record
from accommodations_world import World as AccommodationsWorld
from events_world import World
from sluice import cli
from sluice.aws import dynamodb, s3
from sluice.aws.sessions import client
from sluice.aws.tables import definitions, reading, row_commits
from sluice.deployment.migrate import migrate_accommodations
from sluice.deployment.older_hours import move_older_hours
from sluice.pipelines.accommodations.catalogue import CANDIDATES
from sluice.pipelines.dockerhub.storage import HISTORY
from sluice.pipelines.events import dirty_hours, hours, storage
from sluice.settings import Settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def world(settings: Settings) -> World:
    made = World(settings)
    definitions.create_missing(settings, [HISTORY, CANDIDATES])
    return made


def put(settings: Settings, key: str, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows)
    times = [name for name in table.column_names if name.endswith("_at") and name != "created_at"]
    for name in [*times, "last_updated"]:
        if name in table.column_names:
            index = table.schema.get_field_index(name)
            table = table.set_column(index, name, table[name].cast(pa.timestamp("us", tz="UTC")))
    s3.write_object(settings.lake_bucket, key, row_commits.parquet_bytes(table))


def older_hour(settings: Settings, hour: str, version: str, uuids: str) -> None:
    folder = f"curated/events/{storage.hour_partition(storage.parse_hour(hour))}version={version}/"
    for number, uuid in enumerate(uuids):
        row = {"event_uuid": uuid, "event_name": "a:b", "created_at": 1.5, "created_datetime": f"{hour}:42:01Z"}
        put(settings, f"{folder}part-{number:05d}.parquet", [row | {"arrived_at": NOW, "plan": "gold"}])
    client("dynamodb").put_item(
        TableName=settings.events_checkpoint_table,
        Item={
            "stream": {"S": f"{settings.events_stream}#hours"},
            "shard_id": {"S": hour},
            "number": {"N": "2"},
            "version": {"S": version},
            "raw_files": {"N": "3"},
            "rows": {"N": str(len(uuids))},
            "run": {"S": "older"},
            "published_at": {"S": NOW.isoformat()},
        },
    )


def migrate() -> str:
    done = CliRunner().invoke(cli.main, ["migrate"])
    assert done.exit_code == 0, done.output
    return done.output


def test_published_hours_and_the_history_are_taken_over_once(world: World) -> None:
    settings = world.settings
    older_hour(settings, "2024-04-07T17", "000002-new", "ab")
    # An earlier version, which readers did not see any more.
    put(settings, "curated/events/year=2024/month=04/day=07/hour=17/version=000001-old/part-00000.parquet", [{"x": 1}])
    older_hour(settings, "2024-04-07T18", "000002-z", "c")
    pull = {"namespace": "library", "name": "redis", "star_count": 1, "pull_count": 2, "last_updated": NOW}
    for day in (20, 21):
        at = NOW.replace(day=day)
        put(settings, f"{HISTORY.prefix}year=2026/month=11/day={day}/run.parquet", [{"observed_at": at, **pull}])
    said = migrate()
    assert "dockerhub_history: 2 older files, 2 rows" in said
    assert "events: 2 older hours, 2 of them" in said
    rows = reading.read("events").sort_by("event_uuid").to_pylist()
    assert [(row["event_uuid"], row["plan"]) for row in rows] == [("a", "gold"), ("b", "gold"), ("c", "gold")]
    assert rows[0]["created_datetime"] == datetime(2024, 4, 7, 17, 42, 1, tzinfo=UTC)
    assert [row["observed_at"].day for row in reading.read(HISTORY.name).sort_by("observed_at").to_pylist()] == [20, 21]
    again = migrate()
    assert "2 older files, 0 rows" in again
    assert "2 older hours, 0 of them" in again
    assert reading.read("events").num_rows == 3


def test_the_state_of_hours_moves_into_its_own_table(world: World) -> None:
    settings, stream, hour = world.settings, world.settings.events_stream, world.hour
    older_hour(settings, "2024-04-07T17", "", "ab")
    for text in ("2024-04-07T17", "2024-04-07T18"):
        key = {"stream": f"{stream}#touched", "shard_id": text}
        dynamodb.write(dynamodb.Put(settings.events_checkpoint_table, key | {"revision": "older", "because": "late"}))
    now = datetime(2026, 11, 27, tzinfo=UTC)
    dirty_hours.mark_dirty(
        settings.events_hours_table, stream, hour + storage.HOUR, "newer", "later", now - storage.HOUR
    )
    assert move_older_hours(settings, now) == 3
    assert move_older_hours(settings, now) == 0
    published = hours.read_hour(settings.events_hours_table, stream, hour)
    assert published == hours.PublishedHour(3, 2, "older", NOW)
    found = dirty_hours.list_dirty_hours(settings.events_hours_table, stream)
    assert [(each.hour, each.revision, each.reason, each.since) for each in found] == [
        (hour, "moved:older", "late", now),
        (hour + storage.HOUR, "moved:older", "late", now - storage.HOUR),
    ]
    assert list(dynamodb.scan_items(settings.events_checkpoint_table)) == []


def test_a_publication_under_way_does_not_clear_what_it_has_not_seen(world: World) -> None:
    settings, stream, hour = world.settings, world.settings.events_stream, world.hour
    table, claim = settings.events_hours_table, "publish:run"
    dirty_hours.claim_hour(table, stream, hour, claim, None, "run", NOW)
    key = {"stream": f"{stream}#touched", "shard_id": "2024-04-07T17"}
    dynamodb.write(dynamodb.Put(settings.events_checkpoint_table, key | {"revision": "older", "because": "late"}))
    assert move_older_hours(settings, NOW) == 1
    assert not dirty_hours.clear_dirty_hour(table, stream, hour, claim)
    (found,) = dirty_hours.list_dirty_hours(table, stream)
    assert (found.revision, found.requested_by) == ("moved:older", None)


def test_what_a_worker_of_the_older_version_publishes_meanwhile_moves_too(world: World) -> None:
    settings, stream, hour = world.settings, world.settings.events_stream, world.hour
    hours.write_hour(settings.events_hours_table, stream, hour, hours.PublishedHour(1, 1, "before", NOW - storage.HOUR))
    older_hour(settings, "2024-04-07T17", "", "ab")
    assert move_older_hours(settings, NOW) == 1
    published = hours.read_hour(settings.events_hours_table, stream, hour)
    assert published is not None
    assert published.raw_files == 3


def test_an_hour_that_was_published_since_is_left_as_it_is(world: World) -> None:
    world.put(20, seed=1)
    world.process_late(world.ingest("first"))
    older_hour(world.settings, "2024-04-07T17", "000002-new", "ab")
    assert "events: 0 older hours" in migrate()
    world.assert_each_event_curated_once()


def test_candidates_of_accommodations_are_migrated_with_the_catalogue(settings: Settings) -> None:
    AccommodationsWorld.deploy(settings)
    world = AccommodationsWorld(settings)
    world.prioritise(["A", "T"])
    world.drop("a.jsonl", [a_record("1", "A"), a_record("1", "T"), a_record("2", "T")])
    world.consolidate("older")
    # As the older version left it: files without the column `bucket`, which a manifest names, and no Iceberg table.
    rows = reading.read(CANDIDATES.name).drop_columns(["bucket"])
    for key in world.keys("curated/accommodations_c"):
        client("s3").delete_object(Bucket=settings.lake_bucket, Key=key)
    for definition in TABLES:
        client("glue").delete_table(DatabaseName=settings.glue_database, Name=definition.name)
    definitions.create_missing(settings, TABLES)
    file = "curated/accommodations_candidates/version=000001/candidates-00000.parquet"
    s3.write_object(settings.lake_bucket, file, row_commits.parquet_bytes(rows))
    manifest = {"number": 1, "buckets": 1, "files": {"0": {"candidates": file, "candidate_bytes": 500}}}
    key = "curated/accommodations_candidates/manifests/000001.json"
    s3.write_object(settings.lake_bucket, key, json.dumps(manifest).encode())

    assert migrate_accommodations(settings) == (1, 1)
    assert migrate_accommodations(settings) == (1, 0)
    world.consolidate("next")
    assert world.current() == {"1": ("A", "Hotel"), "2": ("T", "Hotel")}
    world.block(["A"])
    world.consolidate("blocked")
    assert world.current() == {"1": ("T", "Hotel"), "2": ("T", "Hotel")}
