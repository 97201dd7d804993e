"""SNS: publish messages to a topic in batches."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.aws.retries import until_done
from sluice.aws.sessions import client
from sluice.errors import SluiceError
from sluice.settings import load_settings

BATCH_SIZE = 10
"""Maximum number of messages in one PublishBatch."""

ATTEMPTS = 8
FIRST_PAUSE_SECONDS = 0.05


class PublishFailed(SluiceError):
    """SNS refused messages in every attempt."""


def topic_arn(name: str) -> str:
    """ARN of a topic of this account and region by its name; calls STS for the account id."""
    identity = client("sts").get_caller_identity()
    partition = identity["Arn"].split(":")[1]
    return f"arn:{partition}:sns:{load_settings().aws_region}:{identity['Account']}:{name}"


def publish_batch(arn: str, bodies: Sequence[str]) -> None:
    """Publish up to ten messages; refused ones are sent again after a growing pause.

    Raises:
        PublishFailed: some were refused eight times.
    """
    waiting = dict(enumerate(bodies))
    reason = ""

    def publish() -> bool | None:
        nonlocal waiting, reason
        answer = client("sns").publish_batch(
            TopicArn=arn,
            PublishBatchRequestEntries=[{"Id": str(place), "Message": body} for place, body in waiting.items()],
        )
        failed = answer.get("Failed", [])
        if not failed:
            return True
        waiting = {int(each["Id"]): waiting[int(each["Id"])] for each in failed}
        reason = f"{failed[0]['Code']}: {failed[0].get('Message', '')}"
        return None

    if not until_done(publish, attempts=ATTEMPTS, first_pause_seconds=FIRST_PAUSE_SECONDS):
        raise PublishFailed(f"{arn} refused {len(waiting)} of {len(bodies)} messages {ATTEMPTS} times ({reason})")
