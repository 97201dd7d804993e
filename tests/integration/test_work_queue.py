"""Batches of a work queue, as every pipeline that drains one takes them."""

from __future__ import annotations

import json

import pytest

from sluice.aws import sqs
from sluice.aws.sessions import client
from sluice.core.quarantine import RejectedRecord, Rejection
from sluice.core.work_queue import Receipts, WorkQueue
from sluice.settings import Settings

NAME = "work"


def numbers(message: sqs.Message) -> list[int | RejectedRecord]:
    """The numbers in a JSON list; a text among them is rejected, and a body that is no list as a whole."""
    if not message.body.startswith("["):
        raise RejectedRecord("not_list", "the body is no list")
    return [
        each if isinstance(each, int) else RejectedRecord("not_number", f"{each} is no number")
        for each in json.loads(message.body)
    ]


QUEUE = WorkQueue(NAME, numbers)


@pytest.fixture
def url(settings: Settings) -> str:
    """A queue that forgets for a quarter of an hour who received a message."""
    return client("sqs").create_queue(QueueName=NAME, Attributes={"VisibilityTimeout": "900"})["QueueUrl"]


def send(url: str, *bodies: str) -> None:
    for body in bodies:
        client("sqs").send_message(QueueUrl=url, MessageBody=body)


def counts() -> tuple[int, int]:
    """Messages that wait and messages that are in hand."""
    return sqs.queue_counts(NAME)


def test_good_records_are_taken_and_bad_ones_rejected_with_their_message(url: str) -> None:
    send(url, "[1, 2]", '[3, "x", 4]', "nonsense", "[]")
    batch = QUEUE.receive(10)
    assert sorted(batch.records) == [1, 2, 3, 4]
    message = {each.record: each.message for each in batch.received}[4]
    assert message.body == '[3, "x", 4]'
    whole, part = sorted(batch.rejections, key=lambda each: each.reason)
    assert part == Rejection(f"sqs://work/{message.message_id}", "not_number", message.body, "x is no number")
    assert (whole.reason, whole.record, whole.detail) == ("not_list", "nonsense", "the body is no list")
    assert (len(batch), batch.is_drained) == (4, True)


def test_nothing_leaves_the_queue_until_the_batch_is_deleted(url: str) -> None:
    send(url, "[1]", "nonsense")
    batch = QUEUE.receive(10)
    assert counts() == (0, 2)
    batch.receipts.delete()
    assert counts() == (0, 0)
    # As a retry does.
    batch.receipts.delete()


def test_a_message_of_the_batch_can_stay_in_the_queue(url: str) -> None:
    send(url, "[1]", "[2]")
    batch = QUEUE.receive(10)
    kept = {each.message.message_id for each in batch.received if each.record == 2}
    batch.receipts.without(kept).delete()
    assert counts() == (0, 1)
    batch.receipts.hold_back(0)
    assert QUEUE.receive(10).records == [2]


def test_a_batch_has_at_most_its_limit_and_the_next_messages_join_it(url: str) -> None:
    send(url, *(f"[{number}]" for number in range(5)))
    first = QUEUE.receive(2)
    assert (len(first), first.is_drained) == (2, False)
    both = first.followed_by(QUEUE.receive(10, until_empty=True))
    assert (sorted(both.records), both.is_drained) == ([0, 1, 2, 3, 4], True)
    both.receipts.delete()
    assert counts() == (0, 0)


def test_nothing_is_asked_of_an_empty_batch() -> None:
    # There is no queue: a request would fail.
    nothing = QUEUE.nothing(is_drained=False)
    assert (bool(nothing), nothing.is_drained) == (False, False)
    nothing.receipts.delete()
    Receipts(NAME, {}).hold_back(0)
