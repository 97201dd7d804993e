from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from events_world import World
from sluice.settings import Settings


@pytest.fixture
def world(settings: Settings) -> World:
    """An account with the lake and what the events pipeline stands on."""
    return World(settings)


@pytest.fixture(scope="module")
def worker_process() -> Iterator[subprocess.Popen[str]]:
    program = Path(__file__).with_name("worker.py")
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def run_until_write(world: World, worker_process: subprocess.Popen[str]) -> Callable[..., bool]:
    """Run steps in a worker that is killed just before its Nth write; whether it lived to the end."""

    def run(write: int, names: tuple[str, ...], run_id: str, hour: datetime | None = None) -> bool:
        assert worker_process.stdin
        assert worker_process.stdout
        request = SimpleNamespace(
            write=write,
            steps=names,
            run=run_id,
            hour=hour.isoformat() if hour else None,
            now=world.now.isoformat(),
            environment={name: value for name, value in os.environ.items() if name.startswith("SLUICE_")},
        )
        worker_process.stdin.write(json.dumps(vars(request)) + "\n")
        worker_process.stdin.flush()
        code = int(worker_process.stdout.readline())
        assert code in (0, -9), "the worker failed by itself"
        return code == 0

    return run
