"""Publishing what a run staged once, however often its task is cleared."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

from sluice import lake
from sluice.aws import s3

log = logging.getLogger(__name__)


def publish_once(
    bucket: str, pipeline: str, run: str, task: str, staged: Any, publish: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Publish, unless the same task published the same before; then nothing is written.

    The record of it is in the staging of the run and expires with it. A try that died before the record was written
    publishes again, which each pipeline bears; the record is for runs that others have followed.

    Args:
        bucket: the lake bucket.
        pipeline: as in keys.
        run: the run as a part of a key.
        task: of the Dag.
        staged: what is published, as JSON has it; another content is another batch.
        publish: does it; returns the tally, and what else is to be known of the publication.

    Returns:
        The tally, that of the earlier try where there was one.
    """
    digest = content_digest(staged)
    key = record_key(pipeline, run, task)
    if s3.object_exists(bucket, key):
        record = json.loads(s3.read_object(bucket, key).body)
        if record["digest"] == digest:
            log.info("%s of run %s published this batch before: nothing to do", task, run)
            tally: dict[str, Any] = record["tally"]
            return tally
    tally = publish()
    record_published(bucket, pipeline, run, task, staged, tally)
    return tally


def record_published(bucket: str, pipeline: str, run: str, task: str, staged: Any, tally: dict[str, Any]) -> None:
    """Note that a batch is published to its end, for a task of its run that is cleared."""
    record = {"digest": content_digest(staged), "tally": tally}
    s3.write_object(bucket, record_key(pipeline, run, task), json.dumps(record).encode())


def record_key(pipeline: str, run: str, task: str) -> str:
    """Key of the record that a task published its batch."""
    return lake.staging_key(pipeline, run, f"published/{task}.json")


def content_digest(staged: Any) -> str:
    """SHA-256 of a content, as JSON has it."""
    return hashlib.sha256(json.dumps(staged, sort_keys=True).encode()).hexdigest()
