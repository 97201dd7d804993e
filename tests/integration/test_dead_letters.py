"""Dead letters of every queue are listed with what they are about, and go back the same way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from dockerhub_account import DockerHubAccount
from queue_messages import notification, unfinished
from sluice import cli
from sluice.aws import s3, sqs
from sluice.aws.sessions import client
from sluice.monitoring import runs
from sluice.monitoring.pipelines import pipelines
from sluice.monitoring.runs import Failure
from sluice.settings import Settings, load_settings

PIPELINES = [pipeline.name for pipeline in pipelines(load_settings()) if pipeline.queues]


@pytest.fixture
def here(account: DockerHubAccount) -> Settings:
    """An account with all stacks, whose queues are empty."""
    for pipeline in pipelines(account.settings):
        for queue in pipeline.queues:
            for name in (queue, queue + sqs.DEAD_LETTERS):
                client("sqs").purge_queue(QueueUrl=sqs.queue_url(name))
    return account.settings


def sluice(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, ["dead-letters", *arguments])
    return result.exit_code, result.output


def listed(pipeline: str) -> list[dict[str, Any]]:
    code, said = sluice("list", pipeline, "--json")
    assert code == 0, said
    found: list[dict[str, Any]] = json.loads(said)["dead_letters"]
    return found


def bury(queue: str, *bodies: str, **more: Any) -> None:
    url = sqs.queue_url(queue + sqs.DEAD_LETTERS)
    for body in bodies:
        client("sqs").send_message(QueueUrl=url, MessageBody=body, **more)


def left(queue: str) -> tuple[int, int]:
    """Messages in a work queue and in its dead-letter queue."""
    return unfinished(queue), unfinished(queue + sqs.DEAD_LETTERS)


@pytest.mark.parametrize("name", PIPELINES)
def test_dead_letters_are_listed_and_sent_back_only_without_dry_run(here: Settings, name: str) -> None:
    (pipeline,) = [each for each in pipelines(here) if each.name == name]
    for queue in pipeline.queues:
        bury(queue, '{"neither": "this"}', "nor that")
    found = listed(name)
    assert [each["queue"] for each in found] == [
        queue + sqs.DEAD_LETTERS for queue in pipeline.queues for _ in range(2)
    ]
    assert all(each["reason"] and each["about"] and each["receive_count"] == 1 for each in found)
    assert len(listed(name)) == len(found), "listing removes none"

    code, said = sluice("redrive", name)
    assert code == 0, said
    assert f"2 dead letters would go back to {pipeline.queues[0]}\n" in said
    assert said.endswith(f"A dry run. To send them: sluice dead-letters redrive {name} --no-dry-run\n")
    assert {left(queue) for queue in pipeline.queues} == {(0, 2)}

    code, said = sluice("redrive", name, "--no-dry-run", "--max", "1", "--json")
    assert json.loads(said) == {
        "pipeline": name,
        "dry_run": False,
        "queues": {queue: {"waiting": 2, "redriven": 1, "refused": 0} for queue in pipeline.queues},
    }
    code, said = sluice("redrive", name, "--no-dry-run")
    assert f"1 dead letters sent back to {pipeline.queues[0]}, 0 refused by SQS\n" in said
    assert {left(queue) for queue in pipeline.queues} == {(2, 0)}
    assert sluice("list", name) == (0, f"{name} has no dead letters\n")


def test_a_list_says_what_each_message_is_about_and_why_it_probably_failed(here: Settings) -> None:
    bucket = here.landing_bucket
    s3.write_object(bucket, "accommodations/a b.jsonl", "[]".encode("utf-16"))
    s3.write_object(bucket, "accommodations/good.jsonl", b"{}\n")
    bury(
        here.accommodations_queue,
        notification(bucket, "accommodations/a b.jsonl"),
        notification(bucket, "accommodations/gone.jsonl"),
        notification(bucket, "accommodations/good.jsonl"),
    )
    at = datetime.now(UTC)
    failure = Failure("accommodations_consolidate", "collect", "", "run", at, at, 1, "no priority list", "log", "again")
    runs.record_failure(here.runs_table, failure)
    utf16, gone, good = listed("accommodations")
    assert utf16["about"].startswith(f"s3://{bucket}/accommodations/a b.jsonl, 6 bytes of 20")
    assert (utf16["exists"], utf16["reason"]) == (True, "utf16: it is UTF-16: write it as UTF-8")
    assert (gone["exists"], gone["reason"]) == (False, "an object was deleted")
    assert good["exists"] is True
    assert good["reason"].startswith("accommodations_consolidate.collect failed at ")
    assert good["reason"].endswith(": no priority list")
    _, said = sluice("list", "accommodations")
    assert said.count("received 2 times") == 3
    assert f"about:      s3://{bucket}/accommodations/gone.jsonl, deleted\n" in said
    runs.clear_failures(here.runs_table, failure.dag_id, {runs.failure_name(failure.dag_id, failure.task_id, "")}, at)


def test_redriven_messages_keep_attributes_order_and_time_of_sending(here: Settings) -> None:
    url, bodies = sqs.queue_url(here.datasets_queue), [f"{number:02}" for number in range(25)]
    attributes: Any = {
        "text": {"DataType": "String", "StringValue": "a"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    bury(here.datasets_queue, *bodies, MessageAttributes=attributes)
    first_sent = [each["first_sent_at"] for each in listed("datasets")]
    assert sluice("redrive", "datasets", "--no-dry-run")[0] == 0
    answer = client("sqs").receive_message(QueueUrl=url, MessageAttributeNames=["All"], VisibilityTimeout=0)
    (message,) = answer["Messages"]
    assert {name: message["MessageAttributes"][name] for name in attributes} == attributes
    # It fails once more, and goes back once more.
    bury(here.datasets_queue, message["Body"], MessageAttributes=message["MessageAttributes"])
    assert sluice("redrive", "datasets", "--no-dry-run")[0] == 0
    messages, _ = sqs.drain(url, 100)
    assert [each.body for each in messages] == [*bodies, message["Body"]]
    sent_at = [datetime.fromtimestamp(each.sent_at_ms / 1000, UTC).isoformat() for each in messages]
    assert sent_at == [*first_sent, first_sent[0]]


def test_a_redrive_killed_between_sending_and_deleting_loses_nothing(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(here.dockerhub_queue, *(str(number) for number in range(12)))

    def die(url: str, receipt_handles: list[str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqs, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            sqs.redrive(
                sqs.queue_url(here.dockerhub_queue + sqs.DEAD_LETTERS), sqs.queue_url(here.dockerhub_queue), 100
            )
    assert left(here.dockerhub_queue) == (sqs.BATCH_SIZE, 12)


def test_what_sqs_refuses_to_take_stays_a_dead_letter(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(here.dockerhub_queue, "a", "b", "c")
    send = client("sqs").send_message_batch

    def refuse_one(**asked: Any) -> Any:
        answer = send(**asked | {"Entries": [each for each in asked["Entries"] if each["MessageBody"] != "b"]})
        return answer | {"Failed": [{"Id": "1", "Code": "InternalError", "SenderFault": False}]}

    monkeypatch.setattr(client("sqs"), "send_message_batch", refuse_one)
    code, said = sluice("redrive", "dockerhub", "--no-dry-run")
    assert (code, said) == (0, "2 dead letters sent back to sluice-test-dockerhub-raw, 1 refused by SQS\n")
    assert left(here.dockerhub_queue) == (2, 1)


def test_a_pipeline_without_queues_is_named_with_those_that_have_some(here: Settings) -> None:
    code, said = sluice("list", "events")
    assert code == 1
    assert said == (
        "Error: 'events' is not a pipeline with a queue; those are accommodations, datasets, dockerhub, modules\n"
    )


def test_a_queue_that_is_not_deployed_is_one_clear_line(settings: Settings) -> None:
    code, said = sluice("redrive", "datasets")
    assert code == 1
    queue = "sluice-test-datasets-dead-letters"
    assert said == f"Error: SQS queue {queue} does not exist: run `sluice deploy`, or set SLUICE_ENVIRONMENT\n"
