"""Batches of SQS messages: a run drains its queue first and deletes last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sluice.aws import client
from sluice.threads import in_parallel

BATCH_SIZE = 10
"""Messages in one SQS request at the most."""

BRIEF_SECONDS = 300
"""How long messages are ours that are only looked at or moved on."""


@dataclass(frozen=True)
class Message:
    """One received message; it is ours until its visibility timeout ends.

    `sent_at_ms` tells when the queue took it, epoch milliseconds.
    """

    message_id: str
    receipt_handle: str
    body: str
    sent_at_ms: int


class DeleteFailed(RuntimeError):
    """SQS did not delete some messages; they will be delivered again, which every pipeline bears."""


def queue_url(name: str) -> str:
    """URL of a queue of this account by its name."""
    return client("sqs").get_queue_url(QueueName=name)["QueueUrl"]


def queue_depth(url: str) -> int:
    """Messages waiting (approximately, as SQS counts them)."""
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def queue_counts(name: str) -> tuple[int, int] | None:
    """Messages that wait (delayed ones too) and messages that someone has received; None without such a queue."""
    sqs = client("sqs")
    names: Any = [f"ApproximateNumberOfMessages{which}" for which in ("", "Delayed", "NotVisible")]
    try:
        answer = sqs.get_queue_attributes(QueueUrl=queue_url(name), AttributeNames=names)
    except sqs.exceptions.QueueDoesNotExist:
        return None
    waiting, delayed, received = (int(answer["Attributes"][each]) for each in names)
    return waiting + delayed, received


def drain(
    url: str, max_messages: int, wait_seconds: int = 1, *, receivers: int = 1, until_empty: bool = False
) -> list[Message]:
    """Receive until no message waits or `max_messages` are in hand.

    A message that SQS does not count yet is left to the next run; its doorbell rings for it.

    Args:
        url: the queue.
        max_messages: upper bound; the last batch is cut to it.
        wait_seconds: long poll of each receive, 1 to 20. A short poll asks only some of the servers of SQS and may
            answer empty beside waiting messages, a long poll asks all of them (SQS developer guide, long polling).
        receivers: requests at the same time, where so many messages wait.
        until_empty: end only with a long poll that answered empty: what SQS took before is in hand then, also what it
            does not count yet. Costs `wait_seconds`.

    Returns:
        Messages, each once by its id even where SQS delivered it twice (the later receipt handle counts).
    """

    def receive(most: int) -> list[Message]:
        answer = client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        return [
            Message(each["MessageId"], each["ReceiptHandle"], each["Body"], int(each["Attributes"]["SentTimestamp"]))
            for each in answer.get("Messages", [])
        ]

    messages: dict[str, Message] = {}
    waiting = queue_depth(url) if receivers > 1 else 0
    while room := max_messages - len(messages):
        requests = min(receivers, room // BATCH_SIZE, (waiting - len(messages)) // BATCH_SIZE)
        asked = [BATCH_SIZE] * requests if requests > 1 else [min(BATCH_SIZE, room)]
        received = [message for batch in in_parallel(receive, asked) for message in batch]
        messages |= {message.message_id: message for message in received}
        # Asking for the depth is quicker than a long poll of an empty queue.
        if not received or (not until_empty and len(received) < sum(asked) and queue_depth(url) == 0):
            break
    return list(messages.values())


def hold_back(url: str, receipt_handles: Sequence[str], seconds: int) -> None:
    """Let received messages come again after so many seconds, ten to a request.

    That a message is no longer ours is no error: it comes again by itself.
    """
    for start in range(0, len(receipt_handles), BATCH_SIZE):
        handles = receipt_handles[start : start + BATCH_SIZE]
        client("sqs").change_message_visibility_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for index, handle in enumerate(handles)
            ],
        )


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


def peek(url: str, max_messages: int) -> list[str]:
    """Bodies of messages that wait, each once; they are left for others to receive."""
    seen = _receive_briefly(url, max_messages)
    hold_back(url, [each["ReceiptHandle"] for each in seen], 0)
    return [each["Body"] for each in seen]


def redrive(source_url: str, target_url: str, max_messages: int) -> int:
    """Move messages from one queue to another, such as dead letters back to where they came from.

    A message is deleted only once it was sent: who dies between the two leaves it in both queues, which every pipeline
    bears. What SQS refuses to take stays where it is.

    Args:
        source_url: queue of the dead letters.
        target_url: queue that they go back to.
        max_messages: how many at the most.

    Returns:
        How many were moved.
    """
    messages = _receive_briefly(source_url, max_messages)
    for start in range(0, len(messages), BATCH_SIZE):
        batch = messages[start : start + BATCH_SIZE]
        in_parallel(lambda each: client("sqs").send_message(QueueUrl=target_url, MessageBody=each["Body"]), batch)
        delete(source_url, [each["ReceiptHandle"] for each in batch])
    return len(messages)


def _receive_briefly(url: str, max_messages: int) -> list[Any]:
    """Messages that wait, each once; they come again after `BRIEF_SECONDS` by themselves."""
    found: dict[str, Any] = {}
    while len(found) < max_messages:
        received = client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(BATCH_SIZE, max_messages - len(found)),
            VisibilityTimeout=BRIEF_SECONDS,
            WaitTimeSeconds=1,
        )
        messages = received.get("Messages", [])
        found |= {each["MessageId"]: each for each in messages}
        if not messages or queue_depth(url) == 0:
            break
    return list(found.values())
