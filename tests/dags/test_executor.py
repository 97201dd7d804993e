"""The executor of `make up` and Compose: what tasks do not import again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from sluice import pipelines
from sluice.settings import PROJECT_ROOT

WORKER = """
import json, multiprocessing, pathlib, runpy, sys
from airflow.executors import local_executor
from airflow.executors.executor_loader import ExecutorLoader

said = multiprocessing.SimpleQueue()

def work(**_):
    prepared = set(sys.modules)
    for path in sorted(pathlib.Path("dags").glob("events_*.py")):
        runpy.run_path(str(path))
    imported_by_dags = [name for name in sorted(set(sys.modules) - prepared) if ".timetables" not in name]
    said.put((sorted(prepared), len(sys.modules["sluice.aws.sessions"].client_of._made), imported_by_dags))

local_executor._run_worker = work
before = set(sys.modules)
executor = ExecutorLoader.get_default_executor()
executor.start()
print("\\n" + json.dumps([type(executor).__name__, sorted(before), said.get()]))
for worker in executor.workers.values():
    worker.join()
"""


PIPELINES = pipelines.names()


def test_a_worker_begins_with_what_each_task_would_import_for_seconds(airflow_database: None) -> None:
    environment = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW")}
    environment |= {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(PROJECT_ROOT / "plugins")}
    environment["AIRFLOW__CORE__PARALLELISM"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", WORKER], env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    name, before, (in_worker, clients, imported_by_dags) = json.loads(done.stdout.splitlines()[-1])
    assert name == "PreloadingLocalExecutor"
    heavy = {"great_expectations.expectations", "pandas", "pyarrow.parquet", "duckdb", "boto3"}
    assert heavy - set(before), "they are there anyhow"
    assert heavy <= set(in_worker)
    assert {f"sluice.pipelines.{pipeline}.steps" for pipeline in PIPELINES} <= set(in_worker)
    assert clients == 10
    assert imported_by_dags == []
    assert not {name for name in in_worker if name.startswith(("sluice.cli", "sluice.deployment", "sluice_dev"))}
