"""Messages of work queues, as tests send and count them."""

from __future__ import annotations

import json
from urllib.parse import quote_plus

from sluice.aws import sqs


def notification(bucket: str, *keys: str) -> str:
    """The body of the message that S3 sends of new objects."""
    objects = [{"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}} for key in keys]
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": each} for each in objects]})


def unfinished(queue: str) -> int:
    """Messages of a queue that are not deleted, received or not."""
    return sum(sqs.queue_counts(queue))
