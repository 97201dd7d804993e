"""Fixtures of every test: its own settings, and the embedded AWS."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("sluice", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("sluice")

pytest_plugins = ["embedded_aws", "dockerhub_account", "killed_worker"]


class _ByModule(LoadScopeScheduling):  # type: ignore[misc]
    """A process takes a module at a time; tests/dags is one: only one process imports Airflow and makes its database.
    So is tests/browser: only one process runs the stack. Of tests/integration/promises a process takes a Dag at a time.

    As the folders are in the order of their names, the longest come first and the short unit tests fill what is left.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/integration/promises/") and "[" in nodeid:
            return nodeid.partition("[")[2]
        folders = ("tests/dags/", "tests/browser/")
        return next((folder for folder in folders if nodeid.startswith(folder)), nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """What `--dist loadscope` stands for here."""
    return _ByModule(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors: the tests in the browser mostly wait for the stack."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported, which stays, and come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting, credential or proxy of the user; no cached settings or client of another test."""
    from embedded_aws import forget_settings
    from sluice.aws import sessions
    from sluice.settings import load_settings

    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    # Processes of pytest-xdist have the width of the terminal that they were started from.
    monkeypatch.delenv("COLUMNS", raising=False)
    # Messages name the command as the shell finds it: the tests run where it does, as in an activated environment.
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    forget_settings(monkeypatch)
    yield
    load_settings.cache_clear()
    sessions.client_of.cache_clear()
