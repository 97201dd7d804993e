"""Batches of SQS messages: a run drains its queue first and deletes last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sluice.aws import client

BATCH_SIZE = 10
"""Messages in one SQS request at the most."""


@dataclass(frozen=True)
class Message:
    """One received message; it is ours until its visibility timeout ends."""

    message_id: str
    receipt_handle: str
    body: str


class DeleteFailed(RuntimeError):
    """SQS did not delete some messages; they will be delivered again, which every pipeline bears."""


def queue_url(name: str) -> str:
    """URL of a queue of this account by its name."""
    return client("sqs").get_queue_url(QueueName=name)["QueueUrl"]


def queue_depth(url: str) -> int:
    """Messages waiting (approximately, as SQS counts them)."""
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def drain(url: str, max_messages: int, wait_seconds: int = 1) -> list[Message]:
    """Receive until no message waits or `max_messages` are in hand.

    A message that SQS does not count yet is left to the next run; its doorbell rings for it.

    Args:
        url: the queue.
        max_messages: upper bound; the last batch is cut to it.
        wait_seconds: long poll of each receive, 1 to 20. A short poll asks only some of the servers of SQS and may
            answer empty beside waiting messages, a long poll asks all of them (SQS developer guide, long polling).

    Returns:
        Messages, each once by its id even where SQS delivered it twice (the later receipt handle counts).
    """
    messages: dict[str, Message] = {}
    while len(messages) < max_messages:
        answer = client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(BATCH_SIZE, max_messages - len(messages)),
            WaitTimeSeconds=wait_seconds,
        )
        received = answer.get("Messages", [])
        for each in received:
            messages[each["MessageId"]] = Message(each["MessageId"], each["ReceiptHandle"], each["Body"])
        # Asking for the depth is quicker than a long poll of an empty queue.
        if not received or (len(received) < BATCH_SIZE and queue_depth(url) == 0):
            break
    return list(messages.values())


def delete(url: str, receipt_handles: Sequence[str]) -> None:
    """Delete messages, ten to a request; safe to repeat.

    A handle that is no longer valid is passed over: its message was deleted before (by the try that died after it), or
    its visibility timeout has ended and it comes again.

    Raises:
        DeleteFailed: SQS refused some of them for another reason.
    """
    failed: list[Any] = []
    for start in range(0, len(receipt_handles), BATCH_SIZE):
        handles = receipt_handles[start : start + BATCH_SIZE]
        answer = client("sqs").delete_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(index), "ReceiptHandle": handle} for index, handle in enumerate(handles)],
        )
        failed += [each for each in answer.get("Failed", []) if each["Code"] != "ReceiptHandleIsInvalid"]
    if failed:
        raise DeleteFailed(f"{url}: {len(failed)} messages were not deleted, first: {failed[0].get('Message')}")
