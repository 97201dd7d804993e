"""Declaration of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice.core.pipeline import Asset, Dag, Notification, Pipeline
from sluice.settings import Settings

if TYPE_CHECKING:
    from sluice.aws.tables.definitions import TableDefinition

COMMANDS = {"dockerhub": "sluice.pipelines.dockerhub.commands:dockerhub"}
"""Commands of `sluice`: name -> `<module>:<attribute>`."""


def pipeline(settings: Settings) -> Pipeline:
    """Monthly aggregates of the counters of Docker Hub."""
    lake = f"s3://{settings.lake_bucket}"
    return Pipeline(
        "dockerhub",
        dags=(
            Dag(
                "dockerhub_pull",
                settings.dockerhub_pull_schedule,
                deadline_seconds=600,
                tables=("dockerhub_history",),
            ),
            Dag(
                "dockerhub_aggregate",
                "*/30 * * * *",
                deadline_seconds=900,
                tables=(settings.dockerhub_table,),
                queues=(settings.dockerhub_queue,),
            ),
            Dag("dockerhub_rebuild", "0 0 1 * *", deadline_seconds=6 * 3600, partitioned=True),
        ),
        notifications=(
            Notification("lake", "raw/dockerhub/", ".json", settings.dockerhub_queue, topic=settings.dockerhub_queue),
        ),
        assets=(
            # Not SLUICE_DOCKERHUB_URL: the stand-in has another port after each start, and Airflow fails a task whose
            # asset has an address that the dag processor has not stored yet.
            Asset("docker_hub", "https://hub.docker.com/v2/repositories", "http", "Docker Hub's API"),
            Asset("raw_dockerhub", f"{lake}/raw/dockerhub", "json", "Responses of Docker Hub", "dockerhub/pull"),
            Asset(
                "dockerhub_history",
                f"{lake}/curated/dockerhub_history",
                "iceberg",
                "One row for each repository and pull",
                "dockerhub/pull",
            ),
            Asset(
                "dockerhub_stats",
                f"dynamodb://{settings.dockerhub_table}/items",
                "dynamodb",
                "Stars and pulls of each repository by month",
                "dockerhub/aggregate",
            ),
        ),
        tables=_tables,
        expired_staging=(
            (
                "rebuild__",
                "run `sluice airflow backfill create --dag-id dockerhub_rebuild --reprocess-behavior completed"
                " --from-date YYYY-MM-01 --to-date YYYY-MM-01` with its month",
            ),
            ("[^/]+/answers", "run `sluice airflow dags trigger dockerhub_pull`, which queries Docker Hub again"),
            ("", """run `sluice airflow dags trigger dockerhub_aggregate --conf '{"rebuild": true}'`"""),
        ),
    )


def _tables() -> tuple[TableDefinition, ...]:
    from sluice.pipelines.dockerhub.storage import HISTORY

    return (HISTORY,)
