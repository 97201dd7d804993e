"""An executor whose tasks find the heavy libraries imported."""

from __future__ import annotations

import importlib

from airflow.executors.local_executor import LocalExecutor

from sluice.quality.gate import import_great_expectations

LIBRARIES = (
    "boto3",
    "duckdb",
    "pandas",
    "pyarrow.parquet",
    "pyiceberg.catalog.glue",
    "pyiceberg.io.pyarrow",
    "airflow.providers.amazon.aws.operators.glue_crawler",
)


class PreloadingLocalExecutor(LocalExecutor):
    """A LocalExecutor that imports once what its workers, and the tasks that they fork, would each import again.

    Only libraries: code of this project is read anew by each task. Where processes are not forked (macOS) it changes
    nothing.
    """

    def start(self) -> None:
        """Import, then start the workers."""
        if self.is_mp_using_fork:
            for library in LIBRARIES:
                importlib.import_module(library)
            import_great_expectations()
        super().start()
