"""Runs a Dag of tests/promises in a process that is ended by SIGKILL just before its Nth write to AWS.

The fixture `killed_worker` starts this file as a program, which takes one request a line on stdin. What steps import is
imported there once, and used in forks only: a fork must not inherit the threads of an engine.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from promises.subject import Subject

READS = ("Get", "List", "Head", "Describe", "Query", "Scan", "BatchGet", "Receive", "Assume")
"""All other calls change state that a later run could read."""

LIBRARIES = ("duckdb", "numpy", "pyarrow.parquet", "pyiceberg.catalog.glue", "pyiceberg.io.pyarrow", "croniter")
SERVICES = ("s3", "sqs", "sns", "kinesis", "dynamodb", "glue")


class KilledWorker:
    """The program, as a test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, subject: Subject, run: str, write: int) -> bool:
        """Run the tasks of a Dag but for its gate until the Nth write; whether the process lived to the end."""
        request = {
            "dag_id": subject.dag_id,
            "run": run,
            "write": write,
            "journal": str(subject.journal),
            "now": subject.clock().isoformat(),
            "environment": {name: value for name, value in os.environ.items() if name.startswith("SLUICE_")},
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        # The clock of the killed process, which is not known.
        subject.now += timedelta(minutes=1)
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL), "the worker failed by itself"
        return code == 0


@pytest.fixture(scope="session")
def killed_worker() -> Iterator[KilledWorker]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
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
        if not operation_name.startswith(READS):
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


def prepare(subject: type[Subject], environment: dict[str, str]) -> None:
    """Import, take over the settings and make the clients, which takes longer than a step; connections come in the
    fork."""
    pipeline = subject.dag_id.partition("_")[0]
    for name in (*LIBRARIES, *(f"sluice.pipelines.{pipeline}.{module}" for module in ("transform", *subject.modules))):
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
    client_of.cache_clear()
    for service in SERVICES:
        client_of(service, load_settings())


def run(subject: type[Subject], request: dict[str, Any]) -> None:
    from sluice.core import work_queue
    from sluice.settings import load_settings

    work_queue.LONG_POLL_SECONDS = 0
    tested = subject(load_settings(), Path(request["journal"]))
    tested.now = datetime.fromisoformat(request["now"])
    die_before(request["write"])
    tested.run(request["run"])


def main() -> None:
    from promises import subjects

    for line in sys.stdin:
        request = json.loads(line)
        subject = subjects()[request["dag_id"]]
        prepare(subject, request["environment"])
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run(subject, request)
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
