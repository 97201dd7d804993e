"""Cost of a new object in addition to many old ones, and a pull of many repositories of which some fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from urllib.parse import quote

from dockerhub_account import DockerHubAccount, answer, key_of
from embedded_aws import FaultInjection
from sluice.aws.sessions import client
from sluice.pipelines.dockerhub import steps
from sluice.settings import Settings
from sluice_dev.dockerhub import DockerHubStandIn

START = datetime(2020, 1, 1, tzinfo=UTC)
REPOSITORIES = [f"team/image-{number}" for number in range(200)]


def fill(account: DockerHubAccount, numbers: range) -> None:
    """One object an hour in raw/, of one repository."""

    # The emulator reads the account from a signature and does not check it: to sign 2,500 times takes longer.
    credential = f"{account.settings.aws_account_id}/20261121/us-east-1/s3/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"}
    connection = HTTPConnection("127.0.0.1", account.settings.aws_port)
    for number in numbers:
        pushed = START + timedelta(hours=number)
        body = answer(number, number, f"{pushed:%Y-%m-%dT%H:%M:%SZ}")
        key = quote(key_of(f"{pushed:%Y_%m_%d_%H%M%S}"))
        connection.request("PUT", f"/{account.settings.lake_bucket}/{key}", body, headers)
        stored = connection.getresponse()
        stored.read()
        assert stored.status == 200
    connection.close()


def requests_for_one_object(account: DockerHubAccount, faults: FaultInjection, second: int) -> Counter[str]:
    key = account.put(f"2026_01_01_0000{second:02}", 1, 2, f"2026-01-01T00:00:{second:02}Z")
    account.send(account.notification(key))
    before = faults.requests()
    assert account.aggregate(f"run-{second}")["published"] == 1
    used = faults.requests() - before
    return Counter({f"{service} {name}": count for (service, name), count in used.items() if service != "sqs"})


def test_a_new_object_takes_as_many_requests_with_10_as_with_2500_objects(
    deployed: Settings, faults: FaultInjection
) -> None:
    # An account of its own: to take 2,500 objects out again takes longer than to put them in.
    account = DockerHubAccount(deployed)
    account.silence()
    client("sqs").purge_queue(QueueUrl=account.queue_url)
    fill(account, range(10))
    account.aggregate("first", rebuild=True)
    requests_for_one_object(account, faults, 1)
    with_10 = requests_for_one_object(account, faults, 2)
    fill(account, range(10, 2_500))
    assert len(account.keys("raw/dockerhub/")) == 2_502
    with_2500 = requests_for_one_object(account, faults, 3)
    assert with_2500 == with_10
    assert with_10["s3 GetObject"] >= 1
    assert with_10["dynamodb UpdateItem"] >= 1
    assert not any("List" in name or "Query" in name or "Scan" in name for name in with_10)


def test_200_repositories_of_which_5_pct_of_the_answers_go_wrong(
    account: DockerHubAccount, configure: Callable[..., Settings]
) -> None:
    with DockerHubStandIn(error_share=0.05, seed=7, slow_seconds=2, retry_after_seconds=0) as hub:
        configure(
            dockerhub_url=hub.url,
            dockerhub_repositories=",".join(REPOSITORIES),
            dockerhub_timeout_seconds=1,
            dockerhub_retry_max_seconds=0.1,
            dockerhub_concurrency=16,
        )
        fetched = steps.fetch("run")
        asked = hub.requests
    steps.check_answers("run")
    tally = steps.publish_answers("run", fetched)
    assert set(asked) == set(REPOSITORIES)
    assert max(asked.values()) > 1, "what another request repairs was asked again"
    assert tally["records_in"] == 200
    rejected = account.rows("quarantine/dockerhub/run/fetch.jsonl")
    assert 0 < len(rejected) < 20
    assert len(rejected) == tally["quarantined"]
    # All else is got over by asking again.
    assert {row["reason"] for row in rejected} <= {"not_json", "wrong_type"}
    published = {"/".join(part.partition("=")[2] for part in key.split("/")[2:4]) for key in account.keys("raw/")}
    refused = {row["source"].partition("/v2/repositories/")[2].rstrip("/") for row in rejected}
    assert published | refused == set(REPOSITORIES)
    assert not published & refused
    assert tally["published"] == len(published)
    # The queue was notified of each, and one run receives them all.
    assert account.aggregate("run")["published"] == len(published)
    assert account.unfinished() == 0
