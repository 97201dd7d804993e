"""Batches of SQS messages: a run receives them first and deletes them last."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sluice.aws.sessions import client
from sluice.aws.threads import THREADS, in_parallel
from sluice.settings import load_settings

log = logging.getLogger(__name__)

BATCH_SIZE = 10
"""Maximum number of messages in one SQS request."""

BATCH_BYTES = 256 * 1024
"""Maximum size of bodies and attributes of one SendMessageBatch; a larger message is sent alone."""

BRIEF_SECONDS = 300
"""Visibility timeout of messages that are only listed or moved."""

REDRIVE_MESSAGES = 1000
"""Messages received at a time while moving: moved well within `BRIEF_SECONDS`."""

DEAD_LETTERS = "-dead-letters"
"""Suffix of the name of a dead-letter queue after that of its work queue."""

SENT_AT_ATTRIBUTE = "sluice_sent_at_ms"
"""Message attribute of a redriven message: when it was first sent, epoch milliseconds."""

MESSAGE_ATTRIBUTES = 10
"""Maximum number of attributes of a message (SQS developer guide, message metadata)."""

DRAIN_SHARE = 1 / 4
"""Share of the visibility timeout that a drain may take: after three drains of a run, time remains for processing."""

DRAIN_MAX_SECONDS = 20
"""Longest drain: the task frees its slot within about a minute, with a backlog of any size."""


@dataclass(frozen=True)
class Message:
    """One received message, invisible to other consumers until its visibility timeout ends.

    `sent_at_ms` is when it was first sent to the queue, epoch milliseconds; a redrive keeps it.
    """

    message_id: str
    receipt_handle: str
    body: str
    sent_at_ms: int


@dataclass(frozen=True)
class DeadLetter(Message):
    """A message of a dead-letter queue, with all that is needed to send it to another queue.

    Attributes:
        receive_count: how often it was received, this time included.
        attributes: its message attributes, as SQS takes them.
    """

    receive_count: int
    attributes: dict[str, Any]

    @property
    def size_bytes(self) -> int:
        """Its size as counted against `BATCH_BYTES`."""
        return len(self.body.encode()) + len(str(self.attributes).encode())


class Redriven(NamedTuple):
    """Numbers of messages moved, and of those that SQS refused, which stay in their queue."""

    moved: int
    refused: int


class Drained(NamedTuple):
    """Messages received by a drain.

    `is_empty`: whether the queue was empty at the end; exact with `until_empty`, else by the approximate count of SQS.
    """

    messages: list[Message]
    is_empty: bool


class DeleteFailed(RuntimeError):
    """SQS did not delete some messages; they will be delivered again, which every pipeline tolerates."""


def queue_url(name: str) -> str:
    """URL of a queue of this account by its name.

    Raises:
        ResourceMissing: it is not deployed, or was deleted.
    """
    return client("sqs").get_queue_url(QueueName=name)["QueueUrl"]


def address(name: str, message: Message) -> str:
    """Source of a record for the quarantine: a message of a queue."""
    return f"sqs://{name}/{message.message_id}"


def requests_at_once(most: int = THREADS) -> int:
    """Number of concurrent requests to one queue, up to `most`.

    One on the embedded AWS: it iterates over the whole queue for each request and answers one at a time, so that more
    are not faster and delay every other client (measured with 50,000 messages: 16 receivers receive as many messages a
    second as one, and an unrelated request waits 2.8 s instead of 0.1 s).
    """
    return 1 if load_settings().target == "embedded" else most


def queue_depth(url: str) -> int:
    """Messages waiting (approximately, as SQS counts them)."""
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def queue_counts(name: str) -> tuple[int, int]:
    """Number of waiting messages (including delayed ones) and of messages in flight.

    Raises:
        ResourceMissing: it is not deployed, or was deleted.
    """
    names: Any = [f"ApproximateNumberOfMessages{which}" for which in ("", "Delayed", "NotVisible")]
    answer = client("sqs").get_queue_attributes(QueueUrl=queue_url(name), AttributeNames=names)
    waiting, delayed, received = (int(answer["Attributes"][each]) for each in names)
    return waiting + delayed, received


def drain(
    url: str, max_messages: int, wait_seconds: int = 1, *, receivers: int = 1, until_empty: bool = False
) -> Drained:
    """Receive until the queue is empty, `max_messages` are received, or the time limit is reached.

    The time limit is the smaller of `DRAIN_MAX_SECONDS` and `DRAIN_SHARE` of the queue's visibility timeout: if SQS is
    slow, a run must not receive its own first messages again, and needs time to process them. A message that SQS does
    not count yet is received by the next run, which the doorbell starts.

    Args:
        url: the queue.
        max_messages: upper bound; the last batch is cut to it.
        wait_seconds: long poll of each receive, 1 to 20. A short poll queries only some servers of SQS and may be empty
            although messages wait, a long poll queries all of them (SQS developer guide, long polling).
        receivers: concurrent requests, if enough messages wait; see `requests_at_once`.
        until_empty: end only when a long poll returns no message: then all messages sent before are received, also
            those not counted yet. Costs `wait_seconds`.

    Returns:
        Messages, each once by its id even where SQS delivered it twice (the later receipt handle counts).
    """
    started = time.monotonic()
    names: Any = ["VisibilityTimeout", "ApproximateNumberOfMessages"]
    attributes = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    seconds = min(DRAIN_MAX_SECONDS, DRAIN_SHARE * int(attributes["VisibilityTimeout"]))
    waiting = int(attributes["ApproximateNumberOfMessages"])
    messages: dict[str, Message] = {}
    while room := max_messages - len(messages):
        if time.monotonic() - started >= seconds:
            log.info("%s: %d messages received in %.0f s, the next run receives the rest", url, len(messages), seconds)
            return Drained(list(messages.values()), is_empty=False)
        requests = min(requests_at_once(receivers), room // BATCH_SIZE, (waiting - len(messages)) // BATCH_SIZE)
        asked = [BATCH_SIZE] * requests if requests > 1 else [min(BATCH_SIZE, room)]
        received = [
            message for batch in in_parallel(lambda most: _receive(url, most, wait_seconds), asked) for message in batch
        ]
        messages |= {message.message_id: message for message in received}
        # The depth request is faster than a long poll of an empty queue.
        if not received or (not until_empty and len(received) < sum(asked) and queue_depth(url) == 0):
            return Drained(list(messages.values()), is_empty=True)
    return Drained(list(messages.values()), is_empty=False)


def _receive(url: str, most: int, wait_seconds: int) -> list[Message]:
    answer = client("sqs").receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=most,
        WaitTimeSeconds=wait_seconds,
        MessageSystemAttributeNames=["SentTimestamp"],
        MessageAttributeNames=[SENT_AT_ATTRIBUTE],
    )
    return [
        Message(each["MessageId"], each["ReceiptHandle"], each["Body"], _sent_at_ms(each))
        for each in answer.get("Messages", [])
    ]


def _sent_at_ms(received: Any) -> int:
    first = received.get("MessageAttributes", {}).get(SENT_AT_ATTRIBUTE, {}).get("StringValue", "")
    # The attribute is not trusted: any sender can set it.
    return int(first if first.isdecimal() else received["Attributes"]["SentTimestamp"])


def hold_back(url: str, receipt_handles: Sequence[str], seconds: int) -> None:
    """Change the visibility timeout of received messages to `seconds`, ten to a request.

    An expired receipt handle is not an error: its message is visible again already.
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

    An invalid handle is ignored: its message was deleted before (by an attempt that crashed afterwards), or its
    visibility timeout has ended and it is delivered again.

    Raises:
        DeleteFailed: SQS refused some of them for another reason.
    """

    def delete_batch(handles: Sequence[str]) -> list[Any]:
        answer = client("sqs").delete_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(index), "ReceiptHandle": handle} for index, handle in enumerate(handles)],
        )
        return [each for each in answer.get("Failed", []) if each["Code"] != "ReceiptHandleIsInvalid"]

    batches = [receipt_handles[start : start + BATCH_SIZE] for start in range(0, len(receipt_handles), BATCH_SIZE)]
    failed = [each for some in in_parallel(delete_batch, batches, requests_at_once()) for each in some]
    if failed:
        raise DeleteFailed(f"{url}: {len(failed)} messages were not deleted, first: {failed[0].get('Message')}")


def look_at_dead_letters(url: str, max_messages: int) -> list[DeadLetter]:
    """Messages of a dead-letter queue, each once, the oldest first; they stay in the queue."""
    seen = _receive_dead_letters(url, max_messages)
    hold_back(url, [each.receipt_handle for each in seen], 0)
    return seen


def redrive(source_url: str, target_url: str, max_messages: int) -> Redriven:
    """Move dead letters to a work queue, the oldest first, with their attributes and the time when they were first
    sent.

    A message is deleted only after it was sent: after a crash in between it is in both queues, and every pipeline
    tolerates a duplicate. (The redrive API of SQS resets the time of sending, which decides between two versions of a
    record, and the embedded AWS does not have it.)

    Args:
        source_url: queue of the dead letters.
        target_url: queue that they are sent to.
        max_messages: maximum number of messages.
    """
    moved = refused = 0
    while room := max_messages - moved - refused:
        wanted = min(REDRIVE_MESSAGES, room)
        letters = _receive_dead_letters(source_url, wanted)
        for batch in batches_to_send(letters):
            sent = _send(target_url, batch)
            delete(source_url, [each.receipt_handle for each in sent])
            moved += len(sent)
            refused += len(batch) - len(sent)
        if len(letters) < wanted:
            break
    return Redriven(moved, refused)


def batches_to_send(letters: Sequence[DeadLetter]) -> list[list[DeadLetter]]:
    """Split into batches for SendMessageBatch in the same order: at most ten messages and `BATCH_BYTES`."""
    batches: list[list[DeadLetter]] = []
    for letter in letters:
        last = batches[-1] if batches else []
        fits = sum(each.size_bytes for each in last) + letter.size_bytes <= BATCH_BYTES
        if last and len(last) < BATCH_SIZE and fits:
            last.append(letter)
        else:
            batches.append([letter])
    return batches


def _send(url: str, batch: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Send copies of messages; returns those that SQS accepted."""
    entries: list[Any] = []
    for index, letter in enumerate(batch):
        attributes = letter.attributes
        if SENT_AT_ATTRIBUTE in attributes or len(attributes) < MESSAGE_ATTRIBUTES:
            sent_at = {"DataType": "Number", "StringValue": str(letter.sent_at_ms)}
            attributes = attributes | {SENT_AT_ATTRIBUTE: sent_at}
        entries.append({"Id": str(index), "MessageBody": letter.body, "MessageAttributes": attributes})
    answer = client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    for failed in answer.get("Failed", []):
        letter = batch[int(failed["Id"])]
        log.warning("%s: message %s was refused: %s", url, letter.message_id, failed.get("Message", failed["Code"]))
    return [batch[int(each["Id"])] for each in answer.get("Successful", [])]


def _receive_dead_letters(url: str, max_messages: int) -> list[DeadLetter]:
    """Waiting messages, each once; they are visible again after `BRIEF_SECONDS`."""
    found: dict[str, DeadLetter] = {}
    while len(found) < max_messages:
        answer = client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(BATCH_SIZE, max_messages - len(found)),
            VisibilityTimeout=BRIEF_SECONDS,
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            MessageAttributeNames=["All"],
        )
        received = answer.get("Messages", [])
        found |= {each["MessageId"]: _dead_letter(each) for each in received}
        if not received or (len(received) < BATCH_SIZE and queue_depth(url) == 0):
            break
    return sorted(found.values(), key=lambda each: each.sent_at_ms)


def _dead_letter(received: Any) -> DeadLetter:
    fields = ("DataType", "StringValue", "BinaryValue")
    attributes = {
        name: {field: value[field] for field in fields if field in value}
        for name, value in received.get("MessageAttributes", {}).items()
    }
    count = int(received["Attributes"]["ApproximateReceiveCount"])
    place = (received["MessageId"], received["ReceiptHandle"], received["Body"], _sent_at_ms(received))
    return DeadLetter(*place, count, attributes)
