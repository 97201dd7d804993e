"""Runs of the pipeline on the emulator: what is published, skipped, quarantined, and what two at once leave."""

from __future__ import annotations

import gzip

import pytest

from datasets_world import KEY, OUTPUT, World, csv_of, expected, row
from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.pipelines.datasets import steps, storage
from sluice_dev.samples.datasets import Shape, generate, produce

FIRST = csv_of(row(memory=1))
SECOND = csv_of(row(memory=2))
SAME_ROWS_AS_FIRST = csv_of(row(memory=1, record_id="other"))


def memory(world: World, key: str = OUTPUT) -> int:
    """The value that distinguishes the versions of a file."""
    (only,) = world.rows(key)
    return int(only["memory_max"])


def test_files_of_a_producer_become_what_their_good_rows_give(world: World) -> None:
    shape = Shape(500, dps=5, malformed=0.1, seed=4)
    made = produce("sub folder/näme+%20", shape)
    world.announce(made.address.split("/", 3)[3])
    good = [(each.dp, each.memory, each.percentage, each.ratio) for each in generate(shape) if not each.is_malformed]
    assert world.run() == {"records_in": 500, "published": len(good), "duplicates": 0, "quarantined": made.malformed}
    assert world.rows("curated/datasets/näme+%20.parquet") == expected(good)
    assert len(world.quarantined()) == made.malformed
    assert world.unfinished() == 0


def test_a_file_that_is_no_dataset_is_quarantined_and_others_go_through(world: World) -> None:
    bad = {
        "datasets/empty.csv": (b"", "empty_file"),
        "datasets/gzip.csv": (gzip.compress(FIRST), "not_csv"),
        "datasets/header.csv": (b"a;b;c\n1;2;3\n", "wrong_header"),
        "datasets/none.csv": (csv_of(row(memory="x"), row(memory="y")), "no_row_accepted"),
        "datasets/utf16.csv": (FIRST.decode().encode("utf-16"), "not_utf8"),
        "datasets/.csv": (FIRST, "bad_name"),
    }
    for key, (body, _reason) in bad.items():
        world.drop(body, key)
    world.drop(FIRST)
    assert world.run() == {"records_in": 8, "published": 1, "duplicates": 0, "quarantined": 7}
    assert world.keys() == [OUTPUT]
    found = {each["source"]: each for each in world.quarantined()}
    for key, (_body, reason) in bad.items():
        assert found[world.address(key)]["reason"] == reason
    assert found[world.address("datasets/header.csv")]["record"] == "a;b;c\n1;2;3\n"
    assert found[world.address("datasets/none.csv") + " line 3"]["record"] == row(memory="y")
    assert world.unfinished() == 0, "it would never get better"


def test_an_output_stays_when_the_next_version_of_its_file_is_no_dataset(world: World) -> None:
    world.drop(FIRST)
    world.run("first")
    world.drop(csv_of(row(percentage=50), row(percentage=51)))
    assert world.run("second") == {"records_in": 2, "published": 0, "duplicates": 0, "quarantined": 2}
    assert memory(world) == 1


def test_an_unchanged_file_is_skipped_unless_it_is_forced(world: World) -> None:
    world.drop(FIRST)
    assert world.run("first")["published"] == 1
    before = world.body()
    world.drop(FIRST)
    assert world.run("second") == {"records_in": 1, "published": 0, "duplicates": 1, "quarantined": 0}
    assert world.keys("staging/datasets/second/") == [
        "staging/datasets/second/collected.json",
        "staging/datasets/second/files.json",
        "staging/datasets/second/published/publish.json",
    ]
    assert world.run("third", KEY, force=True)["published"] == 1
    assert world.run("fourth", world.address(), force=True)["published"] == 1
    assert world.body()[:4] == b"PAR1"
    # Forced, the version that is there now is read: the second upload, of the same content.
    assert memory(world) == 1
    assert len(world.body()) == len(before)
    world.drop(SECOND)
    assert world.run("fifth")["published"] == 1
    assert memory(world) == 2


def test_the_same_version_gives_the_same_bytes_in_the_same_key(world: World) -> None:
    world.put(FIRST)
    world.run("first", KEY)
    etag = storage.read_published(world.settings.lake_bucket, OUTPUT)
    world.run("second", KEY, force=True)
    assert storage.read_published(world.settings.lake_bucket, OUTPUT) == etag


def test_a_test_event_and_messages_of_no_dataset_do_no_harm(world: World) -> None:
    world.send('{"Service": "Amazon S3", "Event": "s3:TestEvent"}')
    world.send("not json")
    world.send('{"Service": "Amazon S3", "Event": "s3:TestEvent", "x": 1e1000000000000000000}')
    world.send(
        '{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]}'
    )
    world.announce("accommodations/x.csv")
    world.drop(FIRST)
    assert world.run() == {"records_in": 5, "published": 1, "duplicates": 0, "quarantined": 4}
    assert [each["reason"] for each in world.quarantined()] == ["bad_notification"] * 4
    assert world.unfinished() == 0


def test_a_file_deleted_before_it_is_read_is_reported(world: World) -> None:
    world.drop(FIRST)
    client("s3").delete_object(Bucket=world.settings.landing_bucket, Key=KEY)
    assert world.run()["quarantined"] == 1
    assert world.quarantined()[0]["reason"] == "object_missing"
    with pytest.raises(steps.SourceRejected, match="does not exist: never uploaded, or deleted"):
        world.run("asked", KEY)


def test_a_newer_version_replaces_what_an_older_run_published_meanwhile(world: World) -> None:
    world.drop(FIRST)
    older = steps.collect("older")
    steps.aggregate("older")
    world.drop(SECOND)
    newer = steps.collect("newer")
    steps.aggregate("newer")
    assert steps.publish("older", older)["published"] == 1
    assert steps.publish("newer", newer)["published"] == 1
    assert memory(world) == 2


def test_versions_with_equal_rows_are_distinguished(world: World) -> None:
    # Old version published, one in the works, newest published: by the bytes of the rows alone the first and the last
    # could not be told apart, and the one in the works would replace the last.
    world.drop(FIRST)
    world.run("first")
    world.drop(SECOND)
    hanging = steps.collect("hanging")
    steps.aggregate("hanging")
    world.drop(SAME_ROWS_AS_FIRST)
    assert world.run("newest")["published"] == 1
    assert steps.publish("hanging", hanging)["published"] == 0
    assert memory(world) == 1


def test_two_sources_of_one_name_never_overwrite_each_other(world: World) -> None:
    world.drop(SECOND, "datasets/b/x.csv")
    world.drop(FIRST, "datasets/a/x.csv")
    assert world.run("both") == {"records_in": 2, "published": 1, "duplicates": 0, "quarantined": 1}
    assert memory(world) == 1
    world.drop(SECOND, "datasets/b/x.csv")
    assert world.run("again") == {"records_in": 1, "published": 0, "duplicates": 0, "quarantined": 1}
    (rejected,) = world.quarantined("again")
    assert (rejected["source"], rejected["reason"]) == (world.address("datasets/b/x.csv"), "name_taken")
    assert f"belongs to {world.address('datasets/a/x.csv')}" in rejected["detail"]
    with pytest.raises(steps.SourceRejected, match="rename one of the two"):
        world.run("asked", "datasets/b/x.csv")
    assert memory(world) == 1
    assert world.run("taken over", "datasets/b/x.csv", force=True)["published"] == 1
    assert memory(world) == 2
    world.drop(FIRST, "datasets/a/x.csv")
    assert world.run("former owner")["quarantined"] == 1


def test_a_file_of_another_publisher_is_not_overwritten(world: World) -> None:
    s3.write_object(world.settings.lake_bucket, OUTPUT, b"by hand")
    world.drop(FIRST)
    assert world.run()["quarantined"] == 1
    assert "belongs to something else" in world.quarantined()[0]["detail"]
    assert world.body() == b"by hand"
