"""The doorbell: an event trigger that looks at the depth of a work queue and never receives from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent


class QueueDepthTrigger(BaseEventTrigger):
    """Fires when messages wait in a queue; the Dag that it triggers drains the queue.

    It never receives, so it takes no message from the Dag and burns no receive count. After ringing it is silent until
    the queue was seen below `ring_depth` (the Dag drained it) or `ring_again_seconds` have passed (that run failed, or
    more came).

    Args:
        queue_name: name of the SQS queue.
        poll_seconds: pause between two looks at the depth.
        ring_again_seconds: longest silence while messages wait.
        aws_conn_id: the Airflow connection.
        ring_depth: messages that must wait; more than one where the Dag's schedule is soon enough for few.
    """

    def __init__(
        self,
        queue_name: str,
        poll_seconds: float = 1.0,
        ring_again_seconds: float = 30.0,
        aws_conn_id: str = "aws_default",
        ring_depth: int = 1,
    ) -> None:
        super().__init__()
        self.queue_name = queue_name
        self.poll_seconds = poll_seconds
        self.ring_again_seconds = ring_again_seconds
        self.aws_conn_id = aws_conn_id
        self.ring_depth = ring_depth

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, as the triggerer rebuilds it."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "queue_name": self.queue_name,
                "poll_seconds": self.poll_seconds,
                "ring_again_seconds": self.ring_again_seconds,
                "aws_conn_id": self.aws_conn_id,
                "ring_depth": self.ring_depth,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event each time that the bell rings, for ever."""
        # Only the triggerer pays for the import, not every task of a Dag that names this class.
        from airflow.providers.amazon.aws.hooks.sqs import SqsHook

        async with await SqsHook(aws_conn_id=self.aws_conn_id).get_async_conn() as sqs:
            url = (await sqs.get_queue_url(QueueName=self.queue_name))["QueueUrl"]
            rang_at: float | None = None
            while True:
                answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
                depth = int(answer["Attributes"]["ApproximateNumberOfMessages"])
                if depth < self.ring_depth:
                    rang_at = None
                elif rang_at is None or time.monotonic() - rang_at >= self.ring_again_seconds:
                    rang_at = time.monotonic()
                    self.log.info("%d messages wait in %s", depth, self.queue_name)
                    yield TriggerEvent({"queue": self.queue_name, "depth": depth})
                await asyncio.sleep(self.poll_seconds)
