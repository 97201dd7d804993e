from __future__ import annotations

from typing import Any

import pytest

from dockerhub_account import DockerHubAccount
from embedded_aws import FaultInjection
from sluice.aws import sessions, sqs
from sluice.aws.sessions import client
from sluice.settings import Settings


@pytest.fixture
def url(account: DockerHubAccount) -> str:
    return account.queue_url


def bodies(messages: list[sqs.Message]) -> list[str]:
    return sorted(message.body for message in messages)


def test_a_drain_takes_every_message_once_and_leaves_them_to_be_deleted(account: DockerHubAccount, url: str) -> None:
    sent = sorted(f"message {number}" for number in range(37))
    account.send(*sent)
    messages = sqs.drain(url, max_messages=1000).messages
    assert bodies(messages) == sent
    assert len({message.message_id for message in messages}) == 37
    assert (account.waiting(), account.unfinished()) == (0, 37)
    sqs.delete(url, [message.receipt_handle for message in messages])
    assert account.unfinished() == 0


def test_a_drain_of_an_empty_queue_is_nothing(url: str) -> None:
    assert sqs.drain(url, max_messages=10) == ([], True)
    sqs.delete(url, [])


@pytest.mark.parametrize("most", [1, 9, 10, 11, 20])
def test_a_drain_takes_no_more_than_asked_and_the_rest_stays_visible(
    account: DockerHubAccount, url: str, most: int
) -> None:
    account.send(*(str(number) for number in range(25)))
    assert len(sqs.drain(url, max_messages=most).messages) == most
    assert account.waiting() == 25 - most


def test_a_message_delivered_twice_counts_once_and_is_deleted(
    account: DockerHubAccount, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.send(*(str(number) for number in range(10)))
    receive = client("sqs").receive_message
    answers: list[Any] = []

    def deliver_again(**asked: Any) -> Any:
        answer = receive(**asked)
        for message in answer.get("Messages", []) if not answers else []:
            client("sqs").change_message_visibility(
                QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        answers.append(answer)
        return answer

    monkeypatch.setattr(client("sqs"), "receive_message", deliver_again)
    messages = sqs.drain(url, max_messages=100).messages
    assert sum(len(answer.get("Messages", [])) for answer in answers) == 20
    assert bodies(messages) == [str(number) for number in range(10)]
    sqs.delete(url, [message.receipt_handle for message in messages])
    assert account.unfinished() == 0


def test_the_depth_is_of_those_that_wait(account: DockerHubAccount, url: str) -> None:
    assert sqs.queue_depth(url) == 0
    account.send("a", "b", "c")
    assert sqs.queue_depth(url) == 3
    sqs.drain(url, max_messages=2)
    assert sqs.queue_depth(url) == 1


def test_deleting_again_what_is_deleted_is_no_error(account: DockerHubAccount, url: str) -> None:
    account.send(*(str(number) for number in range(12)))
    handles = [message.receipt_handle for message in sqs.drain(url, max_messages=100).messages]
    sqs.delete(url, handles[:7])
    sqs.delete(url, handles)
    assert account.unfinished() == 0


def test_a_message_that_came_again_to_another_reader_is_left_to_it(account: DockerHubAccount, url: str) -> None:
    account.send("a")
    (ours,) = sqs.drain(url, max_messages=1).messages
    client("sqs").change_message_visibility(QueueUrl=url, ReceiptHandle=ours.receipt_handle, VisibilityTimeout=0)
    (theirs,) = sqs.drain(url, max_messages=1).messages
    sqs.delete(url, [ours.receipt_handle])
    sqs.delete(url, [theirs.receipt_handle])
    assert account.unfinished() == 0


def test_messages_that_sqs_does_not_delete_are_an_error_with_their_number(
    account: DockerHubAccount, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(Entries: list[dict[str, str]], **_: Any) -> dict[str, Any]:
        failed = [
            {"Id": each["Id"], "SenderFault": False, "Code": "InternalError", "Message": "try again"}
            for each in Entries
        ]
        return {"Successful": [], "Failed": failed}

    monkeypatch.setattr(client("sqs"), "delete_message_batch", refuse)
    with pytest.raises(sqs.DeleteFailed, match=r"12 messages were not deleted, first: try again"):
        sqs.delete(url, [str(number) for number in range(12)])


def test_a_queue_that_is_not_there_is_an_error_with_the_way_out(settings: Settings) -> None:
    with pytest.raises(sessions.ResourceMissing, match="queue no-such-queue does not exist: run `sluice deploy`"):
        sqs.queue_counts("no-such-queue")


def test_a_drain_of_a_slow_queue_ends_before_its_messages_come_again(
    settings: Settings, faults: FaultInjection
) -> None:
    # A fourth of 2 s, and each receive takes 0.2 s: without a bound the first messages are back before the last came.
    url = client("sqs").create_queue(QueueName="slow", Attributes={"VisibilityTimeout": "2"})["QueueUrl"]
    for start in range(0, 150, 10):
        entries: Any = [{"Id": str(number), "MessageBody": f"{start + number}"} for number in range(10)]
        client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    faults.inject("latency", service="sqs", operation="ReceiveMessage", latency_seconds=0.2)
    before = faults.requests()
    messages, is_empty = sqs.drain(url, 1000)
    assert not is_empty
    assert len(messages) == 10 * (faults.requests() - before)["sqs", "ReceiveMessage"], "a message came twice"
    assert 0 < len(messages) < 150
    sqs.delete(url, [each.receipt_handle for each in messages])
    assert sum(sqs.queue_counts("slow")) == 150 - len(messages)


def test_a_drain_asks_for_ten_messages_at_a_time_and_for_the_depth_twice(
    settings: Settings, faults: FaultInjection
) -> None:
    # The embedded AWS walks the whole queue for each of these requests.
    url = client("sqs").create_queue(QueueName="long")["QueueUrl"]
    for _ in range(5):
        entries: Any = [{"Id": str(number), "MessageBody": "{}"} for number in range(10)]
        client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    before = faults.requests()
    assert len(sqs.drain(url, 1000).messages) == 51
    asked = faults.requests() - before
    assert (asked["sqs", "ReceiveMessage"], asked["sqs", "GetQueueAttributes"]) == (6, 2)
