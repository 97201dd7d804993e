"""dockerhub_aggregate from the queue to the table, against the emulator."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from itertools import permutations

from dockerhub_account import WORKED_EXAMPLE, WORKED_RESULT, DockerHubAccount, an_object, answer, key_of
from sluice.aws import s3
from sluice.pipelines.dockerhub import steps
from sluice.pipelines.dockerhub.transform import TTL_SECONDS, partition_key

PUSH = ("2023_09_14_150000", 198, 178_900_000, "2023-09-14T15:00:00Z")


def test_the_worked_example_of_the_contract(account: DockerHubAccount) -> None:
    for each in WORKED_EXAMPLE:
        account.put(*each)
    assert account.aggregate() == {"records_in": 5, "published": 5, "duplicates": 0, "quarantined": 0}
    assert account.shown() == WORKED_RESULT
    assert account.unfinished() == 0


def test_items_have_the_keys_attributes_and_time_to_live_of_the_contract(account: DockerHubAccount) -> None:
    account.put(*PUSH)
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    collected = steps.collect("run", clock=lambda: now)
    steps.publish_aggregates("run", collected, clock=lambda: now)
    items = account.items()
    push = items["#timestamp#2023-09-14T15:00:00Z"]
    assert push["PK"] == "#user#localstack#name#localstack#namespace#localstack"
    assert (push["star_count"], push["pull_count"], push["last_updated"]) == (198, 178_900_000, "2023-09-14T15:00:00Z")
    assert push["aggregated_metrics_by_year_month"] == {"2023-09": [{"star_count": 198, "pull_count": 178_900_000}]}
    assert items["#latest_version"]["last_updated"] == "2023-09-14T15:00:00Z"
    expiry = int(now.timestamp()) + TTL_SECONDS
    assert TTL_SECONDS == 60 * 86400
    assert (push["TTL"], items["#latest_version"]["TTL"]) == (expiry, expiry)


def test_the_worked_example_holds_in_every_order_with_messages_doubled(account: DockerHubAccount) -> None:
    orders = {f"order-{number}": order for number, order in enumerate(permutations(WORKED_EXAMPLE))}
    assert len(orders) == 120
    account.silence()
    for turn in range(len(WORKED_EXAMPLE)):
        keys = [account.put(*order[turn], name=name) for name, order in orders.items()]
        account.send(*(account.notification(key) for key in keys * 2))
        assert account.aggregate(f"run-{turn}") == {
            "records_in": 240,
            "published": 120,
            "duplicates": 120,
            "quarantined": 0,
        }
    assert {name: account.shown(name) for name in orders} == dict.fromkeys(orders, WORKED_RESULT)
    assert account.unfinished() == 0


def test_the_worked_example_holds_for_every_split_into_batches(account: DockerHubAccount) -> None:
    draw = random.Random(5)
    turns = 3
    # Some objects are named in two batches, some messages name several objects.
    batches: list[list[tuple[str, tuple[str, int, int, str]]]] = [[] for _ in range(turns)]
    names = [f"split-{number}" for number in range(30)]
    for name in names:
        for each in WORKED_EXAMPLE:
            for turn in draw.sample(range(turns), draw.choice([1, 1, 2])):
                batches[turn].append((name, each))
    account.silence()
    for turn, batch in enumerate(batches):
        draw.shuffle(batch)
        keys = [account.put(*each, name=name) for name, each in batch]
        cuts = [keys[start : start + 3] for start in range(0, len(keys), 3)]
        account.send(*(account.notification(*cut) for cut in cuts))
        assert account.aggregate(f"run-{turn}")["published"] == len(keys)
    assert {name: account.shown(name) for name in names} == dict.fromkeys(names, WORKED_RESULT)


def test_a_pull_between_two_pushes_overwrites_its_key_and_counts(account: DockerHubAccount) -> None:
    account.put(*PUSH)
    account.aggregate()
    account.put("2023_09_14_150000", 205, 178_900_777, "2023-09-14T15:00:00Z")
    account.aggregate("next")
    assert account.shown() == {
        "latest": "2023-09-14T15:00:00Z",
        "pushes": {"2023-09-14T15:00:00Z": (205, 178_900_777, "2023-09-14T15:00:00Z")},
        "months": {"2023-09": [{"star_count": 205, "pull_count": 178_900_777}]},
    }


def test_a_key_overwritten_within_one_second_counts_as_it_was_read_last(account: DockerHubAccount) -> None:
    # Times of S3 are whole seconds.
    for star_count in (1, 3, 2):
        written = an_object("2023_09_14_150000", star_count, 10 * star_count, "2023-09-14T15:00:00Z")
        steps._write_repository(
            account.settings, partition_key(written.stats), [written], now=written.last_modified, rebuild=False
        )
        assert account.shown() == {
            "latest": "2023-09-14T15:00:00Z",
            "pushes": {"2023-09-14T15:00:00Z": (star_count, 10 * star_count, "2023-09-14T15:00:00Z")},
            "months": {"2023-09": [{"star_count": star_count, "pull_count": 10 * star_count}]},
        }


def test_a_push_with_a_fraction_of_a_second_is_later_than_the_whole_second(account: DockerHubAccount) -> None:
    account.put("2023_09_15_154317", 2, 20, "2023-09-15T15:43:16.5Z")
    account.aggregate()
    account.put("2023_09_15_154316", 1, 10, "2023-09-15T15:43:16Z")
    account.aggregate("next")
    assert account.shown()["latest"] == "2023-09-15T15:43:16.5Z"


def test_one_moment_written_in_two_ways_has_one_marker_in_any_order(account: DockerHubAccount) -> None:
    one = ("2023_09_15_154316", 1, 10, "2023-09-15T15:43:16Z")
    other = ("2023_09_15_154317", 2, 20, "2023-09-15T15:43:16.0Z")
    for turn in range(2):
        account.put(*(one, other)[turn], name="forward")
        account.put(*(other, one)[turn], name="backward")
        account.aggregate(f"run-{turn}")
    assert account.shown("forward")["latest"] == account.shown("backward")["latest"] == "2023-09-15T15:43:16Z"


def test_an_empty_queue_is_nothing_to_do_and_writes_nothing(account: DockerHubAccount) -> None:
    assert steps.collect("run") == {}
    assert account.keys("") == []


def test_the_test_event_of_s3_leaves_the_queue_and_counts_as_nothing(account: DockerHubAccount) -> None:
    account.send(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}))
    assert account.aggregate() == {"records_in": 0, "published": 0, "duplicates": 0, "quarantined": 0}
    assert account.unfinished() == 0


def test_each_bad_object_or_message_is_quarantined_with_its_reason(
    account: DockerHubAccount,
) -> None:
    bucket = account.settings.lake_bucket
    account.silence()
    good = account.put(*PUSH)
    bodies = {
        "not_json": b"<html>",
        "missing_field": b"{}",
        "wrong_type": b'{"user": 1, "name": 1, "namespace": 1, "star_count": 1, "pull_count": 1, "last_updated": 1}',
        "not_json ": b"\xff\xfe",
        "out_of_range": answer(7, 7, "2023-09-14T15:00:00Z").replace(b"7", b"1e1000000000000000000", 1),
    }
    expected = {}
    for number, (reason, body) in enumerate(bodies.items()):
        key = key_of(f"2023_09_14_15000{number + 1}")
        s3.write_object(bucket, key, body)
        expected[f"s3://{bucket}/{key}"] = reason.strip()
    for file_name, last_updated, reason in (
        ("2023_09_14_150015", "2999-01-01T00:00:00Z", "future_last_updated"),
        ("2023_09_14_150006", "yesterday", "bad_last_updated"),
    ):
        expected[f"s3://{bucket}/{account.put(file_name, 1, 1, last_updated)}"] = reason
    another = key_of("2023_09_14_150007")
    s3.write_object(bucket, another, answer(1, 2, "2023-09-14T15:00:07Z", name="other"))
    expected[f"s3://{bucket}/{another}"] = "wrong_repository"
    account.send(*(account.notification(source.removeprefix(f"s3://{bucket}/")) for source in expected))

    keys = ("raw/dockerhub/not a key+ü%2F.json", "raw/dockerhub/../../etc.json", "")
    account.send(*(account.notification(key) for key in keys))
    # Half of a surrogate pair, which JSON can spell and UTF-8 cannot.
    account.send(account.notification("half").replace("half", "\\\\ud800"))
    gone = key_of("2023_09_14_150009")
    account.send(account.notification(gone), "hello", "[" * 100_000, '{"Type": 1e1000000000000000000}')
    expected[f"s3://{bucket}/{gone}"] = "object_missing"
    account.send(account.notification(good))

    tally = account.aggregate()
    assert tally == {"records_in": len(expected) + 8, "published": 1, "duplicates": 0, "quarantined": len(expected) + 7}
    quarantined = account.quarantined()
    assert expected.items() <= quarantined.items()
    others = sorted(reason for source, reason in quarantined.items() if source not in expected)
    assert others == ["bad_key"] * 2 + ["bad_notification"] * 5
    assert account.shown()["pushes"] == {"2023-09-14T15:00:00Z": (198, 178_900_000, "2023-09-14T15:00:00Z")}
    assert account.unfinished() == 0


def test_a_message_about_another_bucket_is_quarantined(account: DockerHubAccount) -> None:
    account.silence()
    key = account.put(*PUSH)
    body = account.notification(key)
    account.send(body.replace(account.settings.lake_bucket, "elsewhere"))
    assert account.aggregate()["quarantined"] == 1
    (row,) = account.rows("quarantine/dockerhub/run/collect.jsonl")
    assert row["reason"] == "bad_notification"
    assert "elsewhere" in row["detail"]
    assert account.items() == {}
