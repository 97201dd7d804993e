"""A benchmark that is stopped ends all of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from embedded_aws import free_port
from sluice.settings import PROJECT_ROOT


def processes_below(folder: Path) -> list[psutil.Process]:
    """Processes whose command line names something in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_sigterm_ends_every_process_that_a_benchmark_started(tmp_path: Path) -> None:
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "SLUICE_AWS_PORT": str(free_port()),
        "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "include")]),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "modules", "--quick"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    ) as benchmark:
        while not processes_below(tmp_path):
            assert benchmark.poll() is None, "it ended before it started an emulator"
            time.sleep(0.02)
        benchmark.send_signal(signal.SIGTERM)
        assert benchmark.wait(60) == 128 + signal.SIGTERM
    # The emulator that it told to end may need a moment for it.
    _, alive = psutil.wait_procs(processes_below(tmp_path), timeout=20)
    assert alive == []
    assert list(tmp_path.glob("sluice-bench-*")) == []
