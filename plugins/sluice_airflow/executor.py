"""An executor that preloads modules and clients for its tasks."""

from __future__ import annotations

import gc
import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow.executors.local_executor import LocalExecutor
from airflow.sdk.configuration import conf
from airflow.utils.file import iter_airflow_imports

import sluice
from sluice.aws.sessions import client_of
from sluice.core.quality.gate import import_great_expectations, validate
from sluice.settings import load_settings

log = logging.getLogger(__name__)

LIBRARIES = (
    "airflow.dag_processing.bundles.local",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.decorators.short_circuit",
    "airflow.providers.standard.operators.empty",
    "airflow.sdk.bases.operatorlink",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.retry_policy",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.timeout",
    "boto3.s3.inject",
    "duckdb",
    "jinja2.ext",
    "pandas",
    "pyarrow.parquet",
    "pyiceberg.avro.decoder_fast",
    "pyiceberg.catalog.glue",
    "pyiceberg.io.pyarrow",
    "pyiceberg.table.update.validate",
)
"""Libraries that tasks import."""

PLUGINS = tuple(
    f"sluice_airflow.{name}"
    for name in ("defaults", "doorbell", "forms", "gates", "sensors", "skipping", "tasks", "timetable")
)
"""Other plugin modules that Dag files import."""

NOT_OF_TASKS = re.compile(
    r"sluice\.(cli|deployment|core\.commands|core\.console)\b|.*\.(__main__|commands|spark_job|firehose)$"
)
"""Modules of this project that no task imports."""


def product_modules() -> list[str]:
    """Modules of this project that tasks import."""
    # Not pkgutil.walk_packages: it imports the packages of the command line to look into them.
    root = Path(sluice.__file__).parent
    names = (".".join(("sluice", *file.relative_to(root).with_suffix("").parts)) for file in sorted(root.rglob("*.py")))
    return [name for name in names if not NOT_OF_TASKS.match(name) and not name.endswith(".__init__")]


def named_by_dags() -> list[str]:
    """Modules of Airflow that the Dag files import: each task reads its Dag file."""
    folder = Path(conf.get("core", "dags_folder"))
    return sorted({name for path in folder.glob("*.py") for name in iter_airflow_imports(str(path))})


class PreloadingLocalExecutor(LocalExecutor):
    """A LocalExecutor that does once what its workers, and the tasks that they fork, would each repeat.

    It imports the libraries and the modules of this project, validates one row with Great Expectations, and makes the
    clients of AWS (see `aws.client_of.make_before_fork`). So an edit of `include/` counts from the next start of the
    scheduler on; Dag files are read anew by each task, and so is `.env`. Where processes are not forked (macOS) it
    changes nothing.
    """

    def start(self) -> None:
        """Prepare, then start the workers."""
        if self.is_mp_using_fork:
            prepare()
        super().start()


def prepare() -> None:
    """Import and make what tasks need; what fails here is logged, and fails again in each task that needs it."""
    for name in (*LIBRARIES, *named_by_dags(), *product_modules(), *PLUGINS):
        with _logged(f"import of {name}"):
            importlib.import_module(name)
    with _logged("Great Expectations"):
        import_great_expectations()
        from great_expectations import expectations

        rows = expectations.ExpectColumnValuesToNotBeNull(column="rows")
        validate("preload", [{"rows": 1}], ["rows"], lambda: [rows])
    # Tasks are short, and a garbage collection would copy the memory pages shared with the parent.
    gc.set_threshold(20_000, 20, 20)
    with _logged("clients of AWS"):
        client_of.make_before_fork(load_settings())


@contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    # Any error of an import: the scheduler starts nevertheless, and the task that needs it shows the error.
    except Exception as error:  # noqa: BLE001
        log.warning("%s was not prepared, each task does it anew: %s: %s", what, type(error).__name__, error)
