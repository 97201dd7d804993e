"""Assets: what the Dags read and publish, as Airflow's asset graph shows it, from each pipeline's source to its table.

A task that publishes has what it publishes as outlets, and as inlets what that was made from, also where a task before
it read that: Airflow's graph and lineage go from inlet to outlet of one task. `note_publication` attaches to each event
what was published. A Dag of another team is scheduled on one by its name: `schedule=[Asset.ref(name="events")]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from sluice import lake
from sluice.core.tally import COUNTS
from sluice.lake import run_slug
from sluice.settings import load_settings
from sluice_airflow.alerts import partition_of

if TYPE_CHECKING:
    from airflow.sdk import Context

SETTINGS = load_settings()
LAKE, LANDING = f"s3://{SETTINGS.lake_bucket}", f"s3://{SETTINGS.landing_bucket}"


def _asset(name: str, uri: str, pipeline: str, kind: str, description: str, gate: str = "") -> Asset:
    """An asset of a pipeline; `gate` is the one that passes what is published, as in the key of its reports."""
    place = {"target": SETTINGS.target, "region": SETTINGS.aws_region}
    about = {"description": description, "format": kind, "pipeline": pipeline, "gate": gate}
    asset = Asset(name=name, group=pipeline, extra=about | place)
    # Not by its argument: Airflow would look for a normalizer of the scheme among its providers, and import that of
    # Amazon, in each task and whenever a Dag file is read (0.2 s of CPU).
    object.__setattr__(asset, "uri", uri)
    return asset


# Not SLUICE_DOCKERHUB_URL: the stand-in has another port after each start, and Airflow fails a task whose asset has an
# address that the dag processor has not stored yet.
DOCKER_HUB = _asset("docker_hub", "https://hub.docker.com/v2/repositories", "dockerhub", "http", "Docker Hub's API")
RAW_DOCKERHUB = _asset(
    "raw_dockerhub", f"{LAKE}/raw/dockerhub", "dockerhub", "json", "Answers of Docker Hub", "dockerhub/pull"
)
DOCKERHUB_HISTORY = _asset(
    "dockerhub_history",
    f"{LAKE}/curated/dockerhub_history",
    "dockerhub",
    "iceberg",
    "One row for each repository and pull",
    "dockerhub/pull",
)
DOCKERHUB_STATS = _asset(
    "dockerhub_stats",
    f"dynamodb://{SETTINGS.dockerhub_table}/items",
    "dockerhub",
    "dynamodb",
    "Stars and pulls of each repository by month",
    "dockerhub/aggregate",
)

EVENT_STREAM = _asset(
    "event_stream", f"kinesis://{SETTINGS.event_stream}/shards", "events", "kinesis", "Events as sent"
)
RAW_EVENTS = _asset(
    "raw_events", f"{LAKE}/raw/events", "events", "parquet", "Events as received, duplicates included", "events/ingest"
)
EVENTS = _asset("events", f"{LAKE}/curated/events", "events", "iceberg", "Every event once, by hour", "events/hourly")

RECV_MESSAGE = _asset(
    "recv_message", f"sns://{SETTINGS.recv_message_queue}/topic", "modules", "sns", "Messages of IoT modules"
)
WEEKLY_DIAGNOSTIC = _asset(
    "weekly_diagnostic", f"sns://{SETTINGS.weekly_diagnostic_queue}/topic", "modules", "sns", "Diagnostics of modules"
)
SUCCESS_RATE = _asset(
    "success_rate",
    f"sns://{SETTINGS.success_rate_topic}/topic",
    "modules",
    "sns",
    "Success rate of each diagnostic",
    "modules/rates",
)
MODULE_SUCCESS_RATES = _asset(
    "module_success_rates",
    f"{LAKE}/curated/module_success_rates",
    "modules",
    "iceberg",
    "Every success rate that was published",
    "modules/rates",
)

PARTNER_FILES = _asset(
    "partner_files", f"{LANDING}/accommodations", "accommodations", "json", "Catalogues as partners drop them off"
)
ACCOMMODATIONS = _asset(
    "accommodations",
    f"{LAKE}/curated/accommodations",
    "accommodations",
    "json",
    "Consolidated accommodations of each batch",
    "accommodations/consolidate",
)
ACCOMMODATIONS_CANDIDATES = _asset(
    "accommodations_candidates",
    f"{LAKE}/curated/accommodations_candidates",
    "accommodations",
    "iceberg",
    "The newest record of every accommodation and partner",
    "accommodations/consolidate",
)
ACCOMMODATIONS_CURRENT = _asset(
    "accommodations_current",
    f"{LAKE}/curated/accommodations_current",
    "accommodations",
    "iceberg",
    "The latest consolidated record of every accommodation",
    "accommodations/consolidate",
)

DATASET_FILES = _asset("dataset_files", f"{LANDING}/datasets", "datasets", "csv", "Datasets as they are dropped off")
DATASETS = _asset(
    "datasets", f"{LAKE}/curated/datasets", "datasets", "parquet", "One aggregate a dataset", "datasets/aggregate"
)


def note_publication(context: Context, result: Any = None) -> None:
    """Attach to each asset event of a task what was published.

    That is the counts, the partition, the addresses of report and quarantine and, of an Iceberg table that changed, the
    id of its snapshot, by which readers get this publication whatever comes after it.
    """
    outlets = context["task"].outlets
    if not outlets:
        return
    returned = result if isinstance(result, dict) else {}
    counts = {name: returned[name] for name in COUNTS if name in returned}
    snapshots = returned.get("snapshots", {})
    bucket, run = load_settings().lake_bucket, run_slug(context["ti"].run_id)
    for asset in outlets:
        report = lake.quality_key(asset.extra["gate"], run, "html")
        quarantine = lake.quarantine_key(asset.extra["pipeline"], run, "")
        snapshot_id = snapshots.get(asset.name)
        context["outlet_events"][asset].extra = {
            **counts,
            **({"snapshot": snapshot_id} if snapshot_id else {}),
            "partition": partition_of(context),
            "report": f"s3://{bucket}/{report}",
            "quarantine": f"s3://{bucket}/{quarantine.removesuffix('.jsonl')}",
        }
