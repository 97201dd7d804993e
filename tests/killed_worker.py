"""Runs steps in a process that is ended by SIGKILL just before its Nth write to AWS.

The fixture `killed_worker` starts this file as a program, which takes one request a line on stdin. What steps import is
imported there once, and used in forks only: a fork must not inherit the threads of an engine.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest

WRITES = ("Put", "Copy", "Delete", "Create", "Upload", "Complete", "Transact", "Update", "BatchCreate", "BatchUpdate")
MODULES = {"events": ("steps", "rebuild"), "accommodations": ("steps",)}
"""Modules of a pipeline that have its steps."""

SERVICES = ("s3", "sqs", "kinesis", "dynamodb", "glue")


class KilledWorker:
    """The program, as a test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, pipeline: str, write: int, steps: Sequence[str], run: str, now: datetime, hour: datetime | None = None
    ) -> bool:
        """Run steps of a pipeline one after another until the Nth write; whether it lived to the end."""
        request = {
            "pipeline": pipeline,
            "write": write,
            "steps": steps,
            "run": run,
            "now": now.isoformat(),
            "hour": hour.isoformat() if hour else None,
            "environment": {name: value for name, value in os.environ.items() if name.startswith("SLUICE_")},
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL), "the worker failed by itself"
        return code == 0


@pytest.fixture(scope="session")
def killed_worker() -> Iterator[KilledWorker]:
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield KilledWorker(process)
        assert process.stdin
        process.stdin.close()


# The program


def die_before(write: int) -> None:
    import botocore.client
    from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

    lock = threading.Lock()
    writes = 0
    base: Any = botocore.client.BaseClient
    call = base._make_api_call

    def count() -> None:
        nonlocal writes
        with lock:
            writes += 1
            if writes == write:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted(self: Any, operation_name: str, api_params: Any) -> Any:
        if operation_name.startswith(WRITES):
            count()
        return call(self, operation_name, api_params)

    def dying_before(method: Callable[..., Any]) -> Callable[..., Any]:
        def call_it(*args: Any, **named: Any) -> Any:
            count()
            return method(*args, **named)

        return call_it

    base._make_api_call = counted
    # Metadata of tables does not go through boto3.
    for owner, name in ((PyArrowFile, "create"), (PyArrowFileIO, "delete")):
        setattr(owner, name, dying_before(getattr(owner, name)))


def prepare(pipeline: str, environment: dict[str, str]) -> None:
    """Import, take over the settings and make the clients, which takes longer than a step; connections come in the
    fork."""
    libraries = ("duckdb", "numpy", "pyarrow.parquet", "pyiceberg.catalog.glue", "pyiceberg.io.pyarrow")
    for name in (
        *libraries,
        f"sluice.pipelines.{pipeline}.transform",
        f"sluice.pipelines.{pipeline}.steps",
        f"sluice.pipelines.{pipeline}.{MODULES[pipeline][-1]}",
    ):
        importlib.import_module(name)
    if {name: value for name, value in os.environ.items() if name.startswith("SLUICE_")} == environment:
        return
    from sluice.aws.sessions import client_of
    from sluice.settings import Settings, load_settings

    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        del os.environ[name]
    os.environ |= environment
    Settings.model_config["env_file"] = None
    load_settings.cache_clear()
    for service in SERVICES:
        client_of(service, load_settings())


def run(request: dict[str, Any]) -> None:
    now = datetime.fromisoformat(request["now"])
    hour = request["hour"] and datetime.fromisoformat(request["hour"])
    known = {"hour": hour, "day": hour and hour.replace(hour=0), "clock": lambda: now, "has_run": lambda *_: False}
    modules = [
        importlib.import_module(f"sluice.pipelines.{request['pipeline']}.{name}")
        for name in MODULES[request["pipeline"]]
    ]
    die_before(request["write"])
    for name in request["steps"]:
        step = next(getattr(module, name) for module in modules if hasattr(module, name))
        step(request["run"], **{key: known[key] for key in inspect.signature(step).parameters if key in known})


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        prepare(request["pipeline"], request["environment"])
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run(request)
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
