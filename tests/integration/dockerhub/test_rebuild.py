"""Aggregates made again from raw/, all of them or by month."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dockerhub_account import WORKED_EXAMPLE, WORKED_MONTHS, WORKED_RESULT, DockerHubAccount, key_of
from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.pipelines.dockerhub import steps

SEPTEMBER = datetime(2023, 9, 1, tzinfo=UTC)


def rebuild_month(run: str, month: datetime = SEPTEMBER) -> dict[str, int]:
    collected = steps.collect_month(run, month)
    if not collected:
        return {}
    steps.check_objects(run)
    return steps.publish_aggregates(run, collected, rebuild=True)


@pytest.fixture
def quiet(account: DockerHubAccount) -> DockerHubAccount:
    """An account without notifications: a rebuild reads raw/ only."""
    account.silence()
    return account


def test_a_lost_table_is_made_again_from_raw(quiet: DockerHubAccount) -> None:
    for name in ("localstack", "other"):
        for each in WORKED_EXAMPLE:
            quiet.put(*each, name=name)
    assert quiet.aggregate("rebuild", rebuild=True) == {
        "records_in": 10,
        "published": 10,
        "duplicates": 0,
        "quarantined": 0,
    }
    assert quiet.shown("localstack") == quiet.shown("other") == WORKED_RESULT


def test_a_rebuild_of_what_is_right_changes_nothing(account: DockerHubAccount) -> None:
    for each in WORKED_EXAMPLE:
        account.put(*each)
    account.aggregate()
    before = {sort_key: item | {"TTL": 0} for sort_key, item in account.items().items()}
    for run in ("once", "twice"):
        account.aggregate(run, rebuild=True)
        assert {sort_key: item | {"TTL": 0} for sort_key, item in account.items().items()} == before


def test_a_rebuild_takes_no_message_from_the_queue(account: DockerHubAccount) -> None:
    account.put(*WORKED_EXAMPLE[0])
    account.aggregate("rebuild", rebuild=True)
    assert account.waiting() == 1


def test_a_rebuild_of_one_month_makes_that_month_and_no_other(quiet: DockerHubAccount) -> None:
    for each in WORKED_EXAMPLE:
        quiet.put(*each)
    assert rebuild_month("september")["published"] == 4
    assert quiet.shown()["months"] == {"2023-09": WORKED_MONTHS["2023-09"]}
    assert rebuild_month("october", datetime(2023, 10, 31, 23, 59, tzinfo=UTC))["published"] == 1
    assert quiet.shown() == WORKED_RESULT


def test_a_rebuild_of_an_old_month_keeps_the_marker_and_refreshes_its_item(
    account: DockerHubAccount,
) -> None:
    account.put(*WORKED_EXAMPLE[4])
    account.aggregate()
    account.silence()
    for each in WORKED_EXAMPLE[:4]:
        account.put(*each)
    rebuild_month("september")
    assert account.shown() == WORKED_RESULT


@pytest.mark.parametrize("by_month", [False, True], ids=["all", "by month"])
def test_a_month_whose_winning_object_was_deleted_gets_another_winner(
    account: DockerHubAccount, by_month: bool
) -> None:
    keys = [account.put(*each) for each in WORKED_EXAMPLE]
    account.aggregate()
    client("s3").delete_object(Bucket=account.settings.lake_bucket, Key=keys[3])
    if by_month:
        rebuild_month("rebuild")
    else:
        account.aggregate("rebuild", rebuild=True)
    shown = account.shown()
    assert shown["months"] == WORKED_MONTHS | {"2023-09": [{"star_count": 200, "pull_count": 180_000_000}]}
    assert shown["latest"] == WORKED_RESULT["latest"]


def test_a_push_whose_object_was_deleted_shows_another_object(account: DockerHubAccount) -> None:
    keys = [account.put(*each) for each in WORKED_EXAMPLE]
    account.aggregate()
    client("s3").delete_object(Bucket=account.settings.lake_bucket, Key=keys[3])
    account.aggregate("rebuild", rebuild=True)
    assert account.shown()["pushes"]["2023-09-15T15:43:16Z"] == (200, 180_000_000, "2023-09-15T15:43:16Z")


def test_a_month_of_which_no_object_is_left_keeps_what_it_had(account: DockerHubAccount) -> None:
    # raw/ is kept for 365 days; months are for ever.
    keys = [account.put(*each) for each in WORKED_EXAMPLE]
    account.aggregate()
    for key in keys[:4]:
        client("s3").delete_object(Bucket=account.settings.lake_bucket, Key=key)
    account.aggregate("rebuild", rebuild=True)
    assert account.shown() == WORKED_RESULT


def test_what_arrives_while_a_rebuild_is_under_way_is_not_taken_for_gone(account: DockerHubAccount) -> None:
    for each in WORKED_EXAMPLE[:3]:
        account.put(*each)
    collected = steps.collect_month("rebuild", SEPTEMBER)
    account.put(*WORKED_EXAMPLE[3])
    account.aggregate()
    assert steps.publish_aggregates("rebuild", collected, rebuild=True)["published"] == 3
    shown = account.shown()
    assert shown["months"]["2023-09"] == WORKED_MONTHS["2023-09"]
    assert shown["pushes"]["2023-09-15T15:43:16Z"] == (201, 180_000_050, "2023-09-15T15:43:16Z")


def test_nothing_in_raw_is_nothing_to_do(account: DockerHubAccount) -> None:
    assert steps.collect_all("run") == steps.collect_month("run", SEPTEMBER) == {}


def test_an_invalid_object_in_raw_is_quarantined_and_the_rest_is_rebuilt(quiet: DockerHubAccount) -> None:
    bucket = quiet.settings.lake_bucket
    quiet.put(*WORKED_EXAMPLE[0])
    s3.write_object(bucket, "raw/dockerhub/note.json", b"{}")
    s3.write_object(bucket, "raw/dockerhub/namespace=localstack/", b"")  # a folder as the console makes it
    s3.write_object(bucket, key_of("2023_09_20_000000"), b"half")
    assert quiet.aggregate("rebuild", rebuild=True)["quarantined"] == 2
    assert quiet.quarantined("rebuild") == {
        f"s3://{bucket}/raw/dockerhub/note.json": "bad_key",
        f"s3://{bucket}/{key_of('2023_09_20_000000')}": "not_json",
    }
    assert quiet.shown()["latest"] == "2023-09-14T15:00:00Z"
