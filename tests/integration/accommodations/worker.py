"""Runs steps in a process that dies by SIGKILL just before its Nth write to AWS. One request a line on stdin.

What the steps import is imported here once, and used in forks only: a fork must not inherit the threads of an engine.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from datetime import datetime
from typing import Any

import botocore.client
import duckdb  # noqa: F401
import numpy as np  # noqa: F401
import pyarrow  # noqa: F401

import sluice.accommodations.transform  # noqa: F401
from sluice.accommodations import steps
from sluice.aws import client
from sluice.settings import Settings, load_settings

WRITES = ("Put", "Copy", "Delete", "Create", "Upload", "Complete", "Update", "BatchCreate", "BatchUpdate")


def die_before(write: int) -> None:
    lock = threading.Lock()
    writes = 0
    call = botocore.client.BaseClient._make_api_call

    def counted(self: Any, operation_name: str, api_params: Any) -> Any:
        nonlocal writes
        if operation_name.startswith(WRITES):
            with lock:
                writes += 1
                if writes == write:
                    os.kill(os.getpid(), signal.SIGKILL)
        return call(self, operation_name, api_params)

    botocore.client.BaseClient._make_api_call = counted


def prepare(environment: dict[str, str]) -> None:
    """Take over the settings and make the clients, which takes longer than a step; connections come in the fork."""
    if {name: value for name, value in os.environ.items() if name.startswith("SLUICE_")} == environment:
        return
    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        del os.environ[name]
    os.environ |= environment
    Settings.model_config["env_file"] = None
    load_settings.cache_clear()
    for service in ("s3", "sqs", "dynamodb", "glue"):
        client(service)


def run(request: dict[str, Any]) -> None:
    die_before(request["write"])
    now = datetime.fromisoformat(request["now"])
    for step in request["steps"]:
        getattr(steps, step)(request["run"], lambda: now)


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        prepare(request["environment"])
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
