"""The work queue of a pipeline: a run receives a batch of it first, and deletes the messages last.

Their receipt handles (`Receipts`) are staged in one document with their records, so that a run only deletes the
messages of the batch that it published. Messages of a failed run are delivered again when their visibility timeout
ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from sluice.aws import sqs
from sluice.aws.threads import THREADS
from sluice.core.quarantine import RejectedRecord, Rejection

LONG_POLL_SECONDS = 1

Record = TypeVar("Record")


@dataclass(frozen=True)
class Receipts:
    """Receipt handles of a batch, to delete its messages.

    Attributes:
        queue: name of the queue.
        handles: message id -> receipt handle.
    """

    queue: str
    handles: dict[str, str]

    def without(self, message_ids: Collection[str]) -> Receipts:
        """The same without some messages, which stay in the queue."""
        return Receipts(self.queue, {each: handle for each, handle in self.handles.items() if each not in message_ids})

    def delete(self) -> None:
        """Delete the messages, as the last step of a run; see `sluice.aws.sqs.delete`.

        Raises:
            DeleteFailed: SQS refused some.
        """
        if self.handles:
            sqs.delete(sqs.queue_url(self.queue), list(self.handles.values()))

    def hold_back(self, seconds: int) -> None:
        """Change the visibility timeout of the messages to `seconds`; see `sluice.aws.sqs.hold_back`."""
        if self.handles:
            sqs.hold_back(sqs.queue_url(self.queue), list(self.handles.values()), seconds)


class Received(NamedTuple, Generic[Record]):
    """One record, and the message that held it."""

    message: sqs.Message
    record: Record


@dataclass(frozen=True)
class Batch(Generic[Record]):
    """Messages that a run received from a queue.

    Attributes:
        receipts: of all messages.
        received: records in the order of their messages.
        rejections: messages, or parts of them, that did not parse.
        is_drained: whether the queue was empty at the end; by the approximate count of SQS, exact with `until_empty`.
    """

    receipts: Receipts
    received: list[Received[Record]]
    rejections: list[Rejection]
    is_drained: bool

    def __len__(self) -> int:
        """Messages."""
        return len(self.receipts.handles)

    @property
    def records(self) -> list[Record]:
        """The records alone."""
        return [each.record for each in self.received]

    def followed_by(self, more: Batch[Record]) -> Batch[Record]:
        """Both batches as one."""
        receipts = Receipts(self.receipts.queue, self.receipts.handles | more.receipts.handles)
        return Batch(receipts, self.received + more.received, self.rejections + more.rejections, more.is_drained)


@dataclass(frozen=True)
class WorkQueue(Generic[Record]):
    """A queue, and the parser of its messages.

    Attributes:
        name: of the queue.
        parse: message -> its records; a rejected part is returned as its error. If it raises RejectedRecord, the whole
            message is rejected.
    """

    name: str
    parse: Callable[[sqs.Message], Iterable[Record | RejectedRecord]]

    def receive(self, max_messages: int, *, until_empty: bool = False) -> Batch[Record]:
        """Receive and parse waiting messages; they stay in the queue, invisible, until they are deleted.

        Args:
            max_messages: upper bound; the time is limited as well, see `sluice.aws.sqs.drain`.
            until_empty: end only when a long poll returns no message.

        Raises:
            ResourceMissing: the queue is not deployed.
        """
        url = sqs.queue_url(self.name)
        messages, is_empty = sqs.drain(url, max_messages, LONG_POLL_SECONDS, receivers=THREADS, until_empty=until_empty)
        received: list[Received[Record]] = []
        rejections: list[Rejection] = []
        for message in messages:
            try:
                parsed = list(self.parse(message))
            except RejectedRecord as rejected:
                parsed = [rejected]
            for each in parsed:
                if isinstance(each, RejectedRecord):
                    rejections.append(
                        Rejection(sqs.address(self.name, message), each.reason, message.body, each.detail)
                    )
                else:
                    received.append(Received(message, each))
        receipts = Receipts(self.name, {each.message_id: each.receipt_handle for each in messages})
        return Batch(receipts, received, rejections, is_empty)

    def nothing(self, *, is_drained: bool) -> Batch[Record]:
        """A batch without messages, for a run that requests none."""
        return Batch(Receipts(self.name, {}), [], [], is_drained)
