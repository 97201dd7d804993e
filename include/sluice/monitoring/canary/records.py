"""Records of the canary for each pipeline, with reserved names. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sluice.base_settings import CANARY
from sluice.pipelines.accommodations.records import LANDING_PREFIX as PARTNER_FILES_PREFIX
from sluice.pipelines.datasets.records import COLUMNS, OUTPUT_PREFIX, SOURCE_PREFIX
from sluice.pipelines.dockerhub.records import Stats, raw_key
from sluice.pipelines.dockerhub.transform import partition_key
from sluice.pipelines.events.storage import hour_text

NAME = CANARY
"""User, repository, module, accommodation, partner and dataset of the canary; also the type of its event."""

EVENT_HOUR = datetime(2001, 2, 3, 4, tzinfo=UTC)
"""Hour of the canary's events: long over, so that it is published at once, and not a default time of a clock."""

ATTEMPTS = 100
"""Attempts of the diagnostic: rates stay below 100 % even if messages of earlier canaries are processed late."""

REPOSITORY_KEY = partition_key(Stats(NAME, NAME, NAME, 0, 0, "", EVENT_HOUR))
"""Partition key of its items in the table of aggregates."""

PARTNER_FILE = f"{PARTNER_FILES_PREFIX}{EVENT_HOUR:year=%Y/month=%m/day=%d}/{NAME}.jsonl"
DATASET_FILE = f"{SOURCE_PREFIX}{NAME}.csv"
DATASET_OUTPUT = f"{OUTPUT_PREFIX}{NAME}.parquet"

DAGS = {
    "dockerhub": ("dockerhub_aggregate",),
    "events": ("events_ingest", "events_hourly"),
    "modules": ("modules_diagnostics",),
    "accommodations": ("accommodations_consolidate",),
    "datasets": ("datasets_aggregate",),
}
"""Pipelines in the order of `sluice verify`, and the Dags that process the canary's record."""

AWAITED = {
    "dockerhub.item": f"no item of {NAME}/{NAME} in the table of aggregates",
    "events.raw": f"no raw file of hour {hour_text(EVENT_HOUR)}",
    "events.hour": f"hour {hour_text(EVENT_HOUR)} is not published in table events",
    "modules.rate": f"no success rate of module {NAME}",
    "accommodations.published": f"s3://.../{PARTNER_FILE} is not published",
    "datasets.output": f"no {DATASET_OUTPUT}",
}
"""Sensors of the Dag, and the message if one times out."""


@dataclass(frozen=True)
class Observed:
    """State of one pipeline observed by the Dag.

    Attributes:
        failed_task: the first of its tasks that did not succeed; "" for none.
        paused: Dags of the pipeline that are paused now.
        error: reason if no record was sent.
        sent_at: when its record was sent.
        arrived_at: when it was published.
        messages: bodies of the received messages.
    """

    failed_task: str = ""
    paused: tuple[str, ...] = ()
    error: str = ""
    sent_at: datetime | None = None
    arrived_at: datetime | None = None
    messages: tuple[str, ...] = field(default=())

    @property
    def may_come_late(self) -> bool:
        """Whether the pipeline may still publish the record: it may have been sent, and was not published yet."""
        return bool(self.failed_task) and not self.error

    @property
    def latency_seconds(self) -> float | None:
        """From sending to publication; None without both times."""
        if self.failed_task or not (self.sent_at and self.arrived_at):
            return None
        return (self.arrived_at - self.sent_at).total_seconds()


def records(now: datetime) -> dict[str, dict[str, str]]:
    """Records of one run by pipeline: bodies, keys, and identifiers.

    Args:
        now: the time (UTC), which distinguishes the records of runs.
    """
    created_at = EVENT_HOUR + timedelta(seconds=int(now.timestamp()) % 3600)
    milliseconds, token = int(now.timestamp() * 1000), f"{NAME} {now:%Y-%m-%dT%H:%M:%S.%fZ}"
    last_updated = f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"
    event_uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, token))
    repository = {"user": NAME, "name": NAME, "namespace": NAME, "star_count": 0, "pull_count": 0}
    data = dict.fromkeys(
        ("accommodation_name", "accommodation_address", "accommodation_geocodes", "accommodation_city"), token
    )
    row = {"id": NAME, "class": NAME, "memory": 1, "percentage": 1.0, "ratio": 1.0, "fob": "", "dp": token}
    return {
        "dockerhub": {
            "key": raw_key(Stats(NAME, NAME, NAME, 0, 0, last_updated, now)),
            "body": json.dumps(repository | {"last_updated": last_updated}),
            "last_updated": last_updated,
        },
        "events": {
            "uuid": event_uuid,
            "body": json.dumps(
                {"event_uuid": event_uuid, "event_name": f"{NAME}:sent", "created_at": created_at.timestamp()}
            ),
        },
        "modules": {
            "timestamp": str(milliseconds),
            "message": json.dumps({"moduleId": NAME, "timestamp": milliseconds}),
            "diagnostic": json.dumps({"moduleId": NAME, "timestamp": milliseconds, "attempts": ATTEMPTS}),
        },
        "accommodations": {
            "token": token,
            "body": json.dumps({"partner_name": NAME, "accommodation_id": NAME, "accommodation_data": data}) + "\n",
        },
        "datasets": {
            "token": token,
            "body": ",".join(COLUMNS) + "\n" + ",".join(str(row.get(name, 0)) for name in COLUMNS) + "\n",
        },
    }


def sentence(pipeline: str, observed: Observed, timeout_seconds: int) -> str:
    """Why a pipeline failed and what to do, after its name; "" if all of its tasks succeeded."""
    if not observed.failed_task:
        return ""
    if observed.error:
        return observed.error
    if observed.paused:
        return paused_sentence(observed.paused)
    missing = AWAITED.get(observed.failed_task)
    if missing is None:
        return f"task {observed.failed_task} of platform_canary failed; see its log"
    return f"{missing} after {timeout_seconds} s; `sluice status` shows {' and '.join(DAGS[pipeline])}"


def paused_sentence(dag_ids: tuple[str, ...]) -> str:
    """Message that Dags are paused, with the command to unpause them."""
    return f"{' and '.join(dag_ids)} {'is' if len(dag_ids) == 1 else 'are'} paused; " + ", ".join(
        f"`sluice airflow dags unpause {dag_id}`" for dag_id in dag_ids
    )


def summary(latencies: Mapping[str, float | None]) -> str:
    """`dockerhub 8 s, events failed, ...`; None stands for a failure."""
    return ", ".join(
        f"{name} failed" if seconds is None else f"{name} {seconds:.0f} s" for name, seconds in latencies.items()
    )
