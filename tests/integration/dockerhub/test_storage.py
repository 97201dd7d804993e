"""What is read back from the table and the lake, and the command that shows it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from dockerhub_account import WORKED_EXAMPLE, DockerHubAccount, an_object
from embedded_aws import FaultInjection
from sluice.aws import dynamodb, s3
from sluice.aws.threads import in_parallel
from sluice.cli import main
from sluice.pipelines.dockerhub import storage
from sluice.pipelines.dockerhub.transform import partition_key

MANY = 130
"""More than DynamoDB answers in one request."""


def decide(account: DockerHubAccount, number: int) -> str:
    """A repository with two months; its partition key."""
    name = f"image-{number}"
    for file_name, pull_count in (("2023_09_14_150000", 1_000 + number), ("2023_10_14_150000", 2_000 + number)):
        decided = an_object(file_name, number, pull_count, "2023-09-14T15:00:00Z", name=name)
        storage.record_month(account.settings.dockerhub_table, decided)
    return partition_key(decided.stats)


def test_the_last_pull_counts_of_repositories_are_of_their_last_month(account: DockerHubAccount) -> None:
    keys = in_parallel(lambda number: decide(account, number), range(MANY))
    asked = [*keys, "#user#a#name#never#namespace#a"]
    assert storage.read_last_pull_counts(account.settings.dockerhub_table, asked) == {
        key: 2_000 + number for number, key in enumerate(keys)
    }
    assert storage.read_last_pull_counts(account.settings.dockerhub_table, []) == {}


def test_what_dynamodb_leaves_unprocessed_is_asked_for_again(
    account: DockerHubAccount, account_faults: FaultInjection
) -> None:
    key = decide(account, 1)
    account_faults.inject("unprocessed", service="dynamodb", operation="BatchGetItem", times=2)
    assert storage.read_last_pull_counts(account.settings.dockerhub_table, [key]) == {key: 2_001}
    assert account_faults.injected() == 2


def test_a_table_that_never_answers_is_an_error_and_the_messages_stay(
    account: DockerHubAccount, account_faults: FaultInjection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb, "ATTEMPTS", 3)
    account.silence()
    account.send(account.notification(account.put("2023_09_14_150000", 1, 2, "2023-09-14T15:00:00Z")))
    account_faults.inject("unprocessed", service="dynamodb", operation="BatchGetItem")
    with pytest.raises(dynamodb.ItemsRefused, match=rf"{account.settings.dockerhub_table}: 2 items were not read"):
        account.aggregate()
    account_faults.clear()
    account.redeliver()
    assert account.unfinished() == 1
    assert account.aggregate("next")["published"] == 1
    assert account.unfinished() == 0


def test_a_repository_that_was_never_aggregated_has_no_marker(account: DockerHubAccount) -> None:
    with pytest.raises(LookupError, match="#latest_version"):
        storage.read_marker_and_months(account.settings.dockerhub_table, "#user#a#name#b#namespace#c")


def test_a_month_is_listed_over_all_namespaces_and_repositories(account: DockerHubAccount) -> None:
    account.silence()
    bucket = account.settings.lake_bucket
    wanted = [
        f"raw/dockerhub/namespace={namespace}/name={name}/year=2023/month=09/day={day}/2023_09_{day}_000000.json"
        for namespace in ("a", "b")
        for name in ("x", "y")
        for day in ("01", "30")
    ]
    others = [wanted[0].replace("month=09", "month=10"), wanted[0].replace("year=2023", "year=2024")]
    for key in [*wanted, *others]:
        s3.write_object(bucket, key, b"")
    assert list(storage.list_month(bucket, 2023, 9)) == wanted
    assert list(storage.list_month(bucket, 2022, 9)) == []


def test_the_command_shows_stars_and_pulls_of_every_month(account: DockerHubAccount) -> None:
    for name in ("localstack", "other"):
        for each in WORKED_EXAMPLE:
            account.put(*each, name=name)
    account.aggregate()
    assert storage.read_all_months(account.settings.dockerhub_table) == [
        (f"localstack/{name}", month, star_count, pull_count)
        for name in ("localstack", "other")
        for month, star_count, pull_count in (("2023-09", 201, 180_000_050), ("2023-10", 230, 185_000_000))
    ]
    shown = CliRunner().invoke(main, ["dockerhub", "show"])
    assert shown.exit_code == 0
    rows = [line.split() for line in shown.output.splitlines() if "localstack/other" in line]
    assert [[word for word in row if word not in "│┃"] for row in rows] == [
        ["localstack/other", "2023-09", "201", "180,000,050"],
        ["localstack/other", "2023-10", "230", "185,000,000"],
    ]
