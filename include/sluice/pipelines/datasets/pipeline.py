"""Declaration of the pipeline."""

from __future__ import annotations

from sluice.core.pipeline import Asset, Dag, Notification, Pipeline
from sluice.settings import Settings

COMMANDS = {"datasets": "sluice.pipelines.datasets.commands:datasets"}
"""Commands of `sluice`: name -> `<module>:<attribute>`."""


def pipeline(settings: Settings) -> Pipeline:
    """CSV files into one aggregate each."""
    return Pipeline(
        "datasets",
        dags=(
            Dag(
                "datasets_aggregate",
                "*/30 * * * *",
                deadline_seconds=900,
                tables=("datasets",),
                queues=(settings.datasets_queue,),
            ),
            Dag("datasets_await", None),
        ),
        notifications=(Notification("landing", "datasets/", ".csv", settings.datasets_queue),),
        assets=(
            Asset(
                "dataset_files",
                f"s3://{settings.landing_bucket}/datasets",
                "csv",
                "Datasets as uploaded",
            ),
            Asset(
                "datasets",
                f"s3://{settings.lake_bucket}/curated/datasets",
                "parquet",
                "One aggregate a dataset",
                "datasets/aggregate",
            ),
        ),
        expired_staging=(
            (
                "",
                "run `sluice airflow dags trigger datasets_aggregate`, for a run with a source the same with"
                """ `--conf '{"source": "..."}'`; messages that no run processed are listed by"""
                " `sluice dead-letters list datasets`",
            ),
        ),
    )
