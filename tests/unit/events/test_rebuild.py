"""The processes of a rebuild."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil

PARENT = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from sluice.pipelines.events.rebuild import end_with_parent

pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"), end_with_parent)
print(pool.submit(os.getpid).result(), flush=True)
os.kill(os.getpid(), 9)
"""


def test_processes_of_a_killed_rebuild_end_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    _, alive = psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=10)
    assert alive == []
