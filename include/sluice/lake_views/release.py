"""Release from quarantine: a corrected record or file is sent to the source of its pipeline.

The pipeline validates it like any other input, and rejects it again if it is still invalid. A release is idempotent: a
file has the same name, a message and an event are identified by their content.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sluice.aws import kinesis, s3, sqs
from sluice.aws.sessions import client
from sluice.errors import TerminalError
from sluice.monitoring.pipelines import pipelines
from sluice.pipelines.datasets.records import COLUMNS
from sluice.settings import Settings

RECORD_BYTES = 256 * 1024
"""Maximum size of a released record: that of a message."""

DAGS = {
    "accommodations": "accommodations_consolidate",
    "datasets": "datasets_aggregate",
    "events": "events_ingest",
    "modules": "modules_diagnostics",
}
"""Pipeline -> the Dag that processes a released record; users who may trigger it may release."""

_SQS_SOURCE = re.compile(r"sqs://(?P<queue>[A-Za-z0-9_-]+)/")


class NotReleasable(TerminalError):
    """The given record or file cannot be released."""


@dataclass(frozen=True)
class Released:
    """Destination of a released record or file, and the Dag that processes it."""

    address: str
    dag_id: str


def release(settings: Settings, pipeline: str, source: str, text: str) -> Released:
    """Send a corrected record, or for datasets a corrected file, back into its pipeline.

    Args:
        settings: the settings of this process.
        pipeline: the pipeline.
        source: the source of the rejected record in its quarantine file.
        text: the corrected record, or for datasets the whole corrected file.

    Raises:
        NotReleasable: the pipeline, the source or the size is not allowed.
    """
    body = text.encode()
    if not text.strip():
        raise NotReleasable("there is nothing to release: the corrected text is empty")
    if len(body) > RECORD_BYTES:
        raise NotReleasable(
            f"{len(body):,} bytes exceed the limit of {RECORD_BYTES:,}: upload the file to its bucket instead"
        )
    if pipeline not in DAGS:
        raise NotReleasable(
            f"records of {pipeline!r} are pulled again instead: `sluice airflow dags trigger dockerhub_pull`"
            if pipeline == "dockerhub"
            else f"{pipeline!r} has no quarantine; pipelines with a quarantine are {', '.join(DAGS)}"
        )
    return Released(_SENDERS[pipeline](settings, source, text), DAGS[pipeline])


def _accommodations(settings: Settings, source: str, text: str) -> str:  # noqa: ARG001
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    body = (text if text.endswith("\n") else text + "\n").encode()
    key = f"accommodations/released/{name}.jsonl"
    return s3.write_object(settings.landing_bucket, key, body, "application/x-ndjson")


def _datasets(settings: Settings, source: str, text: str) -> str:
    prefix = f"s3://{settings.landing_bucket}/"
    key = source.removeprefix(prefix).partition(" line ")[0]
    is_csv = re.fullmatch(r"datasets/[^\x00-\x1f\\\\]+\.csv", key) and ".." not in key
    if not source.startswith(prefix) or not is_csv:
        raise NotReleasable(
            f"{source!r} is not a CSV file of {prefix}datasets/: correct it at its source, and run"
            " `sluice airflow dags trigger datasets_aggregate` with its source"
        )
    if text.lstrip("\ufeff").partition("\n")[0].strip() != ",".join(COLUMNS):
        raise NotReleasable(f"this replaces the whole file: give all of it, from its first line {','.join(COLUMNS)}")
    return s3.write_object(settings.landing_bucket, key, text.encode(), "text/csv")


def _events(settings: Settings, source: str, text: str) -> str:  # noqa: ARG001
    body = text.strip().encode()
    kinesis.put_batch(settings.events_stream, [kinesis.Entry(hashlib.sha256(body).hexdigest(), body)])
    return f"kinesis://{settings.events_stream}"


def _modules(settings: Settings, source: str, text: str) -> str:
    found = _SQS_SOURCE.match(source)
    queues = {queue for pipeline in pipelines(settings) if pipeline.name == "modules" for queue in pipeline.queues}
    if found is None or found["queue"] not in queues:
        raise NotReleasable(f"{source!r} is not a queue of modules; those are {', '.join(sorted(queues))}")
    client("sqs").send_message(QueueUrl=sqs.queue_url(found["queue"]), MessageBody=text.strip())
    return f"sqs://{found['queue']}"


_SENDERS = {"accommodations": _accommodations, "datasets": _datasets, "events": _events, "modules": _modules}
