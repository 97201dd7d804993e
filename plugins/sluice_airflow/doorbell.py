"""The doorbell: an event trigger that polls the depth of a work queue and never receives from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from sluice.settings import load_settings

LOOK_SHARE = 0.05
"""Maximum share of time that a trigger spends in requests: the embedded AWS iterates over the whole queue for each."""

LOOK_PAUSE_MAX_SECONDS = 10.0
"""Longest pause for that reason: a request also takes long when AWS is restarting."""

TROUBLE_MAX_SECONDS = 60.0
"""Longest pause between two polls while the queue is missing or AWS does not answer."""


class QueueDepthTrigger(BaseEventTrigger):
    """Fires when messages wait in a queue; the Dag that it triggers drains the queue.

    It never receives, so it takes no message from the Dag and does not increase receive counts. After firing it does
    not poll the queue again until a run of the Dag has processed something (from the table of runs) or the time of
    silence is over. That time doubles with every ring without effect, up to a bound, and is reset once a run has
    processed something or the queue was below `ring_depth`.

    A missing queue, or an AWS that does not answer, is logged once and polled until it is available.

    Args:
        queue_name: name of the SQS queue.
        dag_id: the Dag that drains it.
        poll_seconds: pause between two polls.
        silence_seconds: first time of silence while messages wait.
        silence_max_seconds: longest time of silence.
        aws_conn_id: the Airflow connection.
        ring_depth: messages that must wait; more than one if the Dag's schedule is sufficient for fewer.
        runs_table: DynamoDB table of runs; that of the settings when "".
    """

    def __init__(
        self,
        queue_name: str,
        dag_id: str,
        poll_seconds: float = 1.0,
        silence_seconds: float = 30.0,
        silence_max_seconds: float = 1800.0,
        aws_conn_id: str = "aws_default",
        ring_depth: int = 1,
        runs_table: str = "",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue_name = queue_name
        self.dag_id = dag_id
        self.poll_seconds = poll_seconds
        self.silence_seconds = silence_seconds
        self.silence_max_seconds = silence_max_seconds
        self.aws_conn_id = aws_conn_id
        self.ring_depth = ring_depth
        self.runs_table = runs_table or load_settings().runs_table
        self._url = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, as the triggerer rebuilds it."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "queue_name": self.queue_name,
                "dag_id": self.dag_id,
                "poll_seconds": self.poll_seconds,
                "silence_seconds": self.silence_seconds,
                "silence_max_seconds": self.silence_max_seconds,
                "aws_conn_id": self.aws_conn_id,
                "ring_depth": self.ring_depth,
                "runs_table": self.runs_table,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event each time it fires, for ever."""
        # Imported in the triggerer only, not in every task of a Dag with this class.
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from botocore.exceptions import BotoCoreError, ClientError

        from sluice.aws.sessions import error_code

        sqs_hook: Any = AwsGenericHook(aws_conn_id=self.aws_conn_id, client_type="sqs")
        dynamodb_hook: Any = AwsGenericHook(aws_conn_id=self.aws_conn_id, client_type="dynamodb")
        async with await sqs_hook.get_async_conn() as sqs, await dynamodb_hook.get_async_conn() as dynamodb:
            bell = _Bell(self.silence_seconds, self.silence_max_seconds)
            trouble, pause = "", self.poll_seconds
            while True:
                began = time.monotonic()
                try:
                    depth = await self._look(sqs, dynamodb, bell)
                    if trouble:
                        self.log.info("%s answers again", self.queue_name)
                    share_pause = min((time.monotonic() - began) / LOOK_SHARE, LOOK_PAUSE_MAX_SECONDS)
                    trouble, pause = "", max(self.poll_seconds, share_pause)
                except (BotoCoreError, ClientError, OSError) as error:
                    depth = None
                    said = error_code(error) or type(error).__name__
                    if said != trouble:
                        self.log.warning(
                            "queue %s cannot be polled (%s): %s. It is polled until it answers; `sluice status` shows"
                            " what is missing",
                            *(self.queue_name, said, error),
                        )
                    self._url = ""
                    trouble, pause = said, min(2 * pause, TROUBLE_MAX_SECONDS)
                if depth is not None:
                    self.log.info("%d messages wait in %s", depth, self.queue_name)
                    yield TriggerEvent({"queue": self.queue_name, "depth": depth})
                await asyncio.sleep(pause)

    async def _look(self, sqs: Any, dynamodb: Any, bell: _Bell) -> int | None:
        """Poll the queue unless the bell is silent; returns the number of waiting messages if it fires."""
        if bell.is_silent(time.monotonic()) and not bell.has_effect(await self._processed_at(dynamodb)):
            return None
        if not self._url:
            self._url = (await sqs.get_queue_url(QueueName=self.queue_name))["QueueUrl"]
        answer = await sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"])
        depth = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        if depth < self.ring_depth:
            bell.reset()
            return None
        processed_at = await self._processed_at(dynamodb)
        bell.ring(time.monotonic(), processed_at)
        return depth

    async def _processed_at(self, dynamodb: Any) -> str:
        """When a run of the Dag last processed something, from the table of runs; "" if unknown."""
        from botocore.exceptions import BotoCoreError, ClientError

        from sluice.aws.dynamodb import from_attributes, to_attributes

        key = to_attributes({"kind": "dag", "name": self.dag_id})
        try:
            noted = await dynamodb.get_item(TableName=self.runs_table, Key=key, ConsistentRead=True)
        except (BotoCoreError, ClientError, OSError):
            # Not required: the bell fires again when its silence is over.
            return ""
        found: str = from_attributes(noted.get("Item", {})).get("tally_at", "")
        return found


class _Bell:
    """State of polling and silence; times are seconds of a monotonic clock."""

    def __init__(self, silence_seconds: float, silence_max_seconds: float) -> None:
        self.first_silence, self.silence_max = silence_seconds, silence_max_seconds
        self.reset()

    def reset(self) -> None:
        """Ring at once when messages wait."""
        self.rang_at: float | None = None
        self.processed_at = ""
        self.silence = self.first_silence

    def is_silent(self, now: float) -> bool:
        """Whether it rang, and the time of silence is not over."""
        return self.rang_at is not None and now - self.rang_at < self.silence

    def has_effect(self, processed_at: str) -> bool:
        """Whether a run has processed something since it rang; then it is as if it had not rung."""
        if not processed_at or processed_at == self.processed_at:
            return False
        self.reset()
        return True

    def ring(self, now: float, processed_at: str) -> None:
        """It rings; a ring without effect makes the next silence twice as long."""
        if self.rang_at is not None:
            self.silence = min(2 * self.silence, self.silence_max)
        self.rang_at, self.processed_at = now, processed_at


def doorbell(queue_name: str, dag_id: str, pipeline: str, ring_depth: int = 1) -> Asset:
    """The asset of a work queue, in the group of its pipeline: its events start the Dag that drains it.

    Args:
        queue_name: name of the SQS queue.
        dag_id: the Dag.
        pipeline: whose queue it is.
        ring_depth: messages that must wait.
    """
    waiting = "messages wait" if ring_depth == 1 else f"{ring_depth:,} messages wait"
    trigger = QueueDepthTrigger(queue_name, dag_id, ring_depth=ring_depth)
    # A name, not sqs://: for a URI Airflow searches all providers, 0.14 s in each task.
    return Asset(
        queue_name,
        group=pipeline,
        extra={"description": f"Work queue: starts {dag_id} when {waiting}"},
        watchers=[AssetWatcher(name=queue_name, trigger=trigger)],
    )
