"""Airflow in this process, with a metadata database of its own, made once a session.

Airflow reads its environment when it is imported, so this is set up while tests are collected, before any imports it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dockerhub_account import DockerHubAccount
from embedded_aws import use_settings
from sluice.environment import airflow_environment, aws_connection
from sluice.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG

HOME = Path(tempfile.mkdtemp(prefix="sluice-dags-"))
ENVIRONMENT = {
    name: value
    for name, value in airflow_environment(
        Settings(_env_file=None, home=HOME), f"sqlite:///{HOME}/airflow.db", "a secret of tests, long enough to sign"
    ).items()
    if not name.startswith("AWS_")
}
os.environ |= ENVIRONMENT


def pytest_unconfigure() -> None:
    """Leave no folder behind."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """The metadata database, empty, at the version of this Airflow."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={"PATH": os.environ.get("PATH", "")} | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(HOME / "airflow.db", HOME / "empty.db")


@pytest.fixture
def other_database(airflow_database: None, tmp_path: Path) -> str:
    """URL of an empty metadata database beside that of this process: Dags that are read under other settings have
    assets of the same names at other addresses, of which Airflow activates the first only."""
    return f"sqlite:///{shutil.copy(HOME / 'empty.db', tmp_path / 'airflow.db')}"


@pytest.fixture(scope="session")
def dags(airflow_database: None) -> dict[str, DAG]:
    """All Dags of the project by their id, as the dag processor reads them."""
    with pytest.MonkeyPatch.context() as patch:
        use_settings(patch)
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(PROJECT_ROOT / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.fixture
def run_dag(dags: dict[str, DAG], account: DockerHubAccount, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DagRun]:
    """Run a Dag against the account, as `airflow dags test` does: `run_dag("dockerhub_pull", run_conf={...})`."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(account.settings))

    def run(dag_id: str, **arguments: Any) -> DagRun:
        finished: DagRun = dags[dag_id].test(**arguments)
        return finished

    return run
