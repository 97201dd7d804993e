"""Batches of SQS messages: a run drains its queue first and deletes last."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from sluice.aws import client, error_code
from sluice.errors import TerminalError
from sluice.settings import load_settings
from sluice.threads import THREADS, in_parallel

log = logging.getLogger(__name__)

BATCH_SIZE = 10
"""Messages in one SQS request at the most."""

BRIEF_SECONDS = 300
"""How long messages are ours that are only looked at or moved on."""

DRAIN_SHARE = 1 / 4
"""Share of the visibility timeout that a drain may take: three drains in one run leave time to process."""

DRAIN_MAX_SECONDS = 20
"""Longest drain: with a backlog of any size a task of it leaves its slot to others within a minute or so."""

QUEUE_MISSING = "QueueDoesNotExist"
"""`error_code` of a request for a queue that is not there."""


@dataclass(frozen=True)
class Message:
    """One received message; it is ours until its visibility timeout ends.

    `sent_at_ms` tells when the queue took it, epoch milliseconds.
    """

    message_id: str
    receipt_handle: str
    body: str
    sent_at_ms: int


class Drained(NamedTuple):
    """What a drain received.

    `is_empty` tells that no further message waited at its end; for certain only with `until_empty`, else as SQS counts.
    """

    messages: list[Message]
    is_empty: bool


class QueueMissing(TerminalError):
    """There is no queue of that name."""


class DeleteFailed(RuntimeError):
    """SQS did not delete some messages; they will be delivered again, which every pipeline bears."""


def queue_url(name: str) -> str:
    """URL of a queue of this account by its name.

    Raises:
        QueueMissing: it is not deployed, or somebody deleted it.
    """
    try:
        return client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if error_code(error) != QUEUE_MISSING:
            raise
        raise QueueMissing(f"queue {name} does not exist: run `sluice deploy`, or set SLUICE_ENVIRONMENT") from None


def requests_at_once(most: int = THREADS) -> int:
    """Requests to one queue at the same time, of `most`.

    One on the embedded AWS: it walks the whole queue for each request and answers one at a time, so that more of them
    are no faster and hold up every other client (measured with 50,000 messages: 16 receivers take as many messages a
    second as one, and an unrelated request waits 2.8 s instead of 0.1 s).
    """
    return 1 if load_settings().target == "embedded" else most


def queue_depth(url: str) -> int:
    """Messages waiting (approximately, as SQS counts them)."""
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def queue_counts(name: str) -> tuple[int, int]:
    """Messages that wait (delayed ones too) and messages that someone has received.

    Raises:
        QueueMissing: it is not deployed, or somebody deleted it.
    """
    names: Any = [f"ApproximateNumberOfMessages{which}" for which in ("", "Delayed", "NotVisible")]
    answer = client("sqs").get_queue_attributes(QueueUrl=queue_url(name), AttributeNames=names)
    waiting, delayed, received = (int(answer["Attributes"][each]) for each in names)
    return waiting + delayed, received


def drain(
    url: str, max_messages: int, wait_seconds: int = 1, *, receivers: int = 1, until_empty: bool = False
) -> Drained:
    """Receive until no message waits, `max_messages` are in hand, or the time for it is over.

    The time is the smaller of `DRAIN_MAX_SECONDS` and `DRAIN_SHARE` of the queue's visibility timeout: where SQS is
    slow, a run must not receive its own first messages again, and needs time left to process them. A message that SQS
    does not count yet is left to the next run; its doorbell rings for it.

    Args:
        url: the queue.
        max_messages: upper bound; the last batch is cut to it.
        wait_seconds: long poll of each receive, 1 to 20. A short poll asks only some of the servers of SQS and may
            answer empty beside waiting messages, a long poll asks all of them (SQS developer guide, long polling).
        receivers: requests at the same time, where so many messages wait; see `requests_at_once`.
        until_empty: end only with a long poll that answered empty: what SQS took before is in hand then, also what it
            does not count yet. Costs `wait_seconds`.

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
            log.info(
                "%s: %d messages received in %.0f s, the rest is left to the next run", url, len(messages), seconds
            )
            return Drained(list(messages.values()), is_empty=False)
        requests = min(requests_at_once(receivers), room // BATCH_SIZE, (waiting - len(messages)) // BATCH_SIZE)
        asked = [BATCH_SIZE] * requests if requests > 1 else [min(BATCH_SIZE, room)]
        received = [
            message for batch in in_parallel(lambda most: _receive(url, most, wait_seconds), asked) for message in batch
        ]
        messages |= {message.message_id: message for message in received}
        # Asking for the depth is quicker than a long poll of an empty queue.
        if not received or (not until_empty and len(received) < sum(asked) and queue_depth(url) == 0):
            return Drained(list(messages.values()), is_empty=True)
    return Drained(list(messages.values()), is_empty=False)


def _receive(url: str, most: int, wait_seconds: int) -> list[Message]:
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
