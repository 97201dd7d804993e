from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accommodations_world import World
from embedded_aws import use_settings
from sluice.settings import Settings


@pytest.fixture(scope="session")
def accommodations_settings(embedded_server: Settings) -> dict[str, Any]:
    """Settings of an account with what the pipeline stands on, made once: that takes longer than most tests."""
    number = f"{random.SystemRandom().randrange(10**12):012}"
    values: dict[str, Any] = {
        "target": "embedded",
        "environment": "test",
        "home": embedded_server.home,
        "aws_port": embedded_server.aws_port,
        "aws_account_id": number,
        "lake_bucket": f"lake-{number}",
        "landing_bucket": f"landing-{number}",
    }
    with pytest.MonkeyPatch.context() as patch:
        World.deploy(use_settings(patch, **values))
    return values


@pytest.fixture
def world(accommodations_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> World:
    """That account, empty."""
    world = World(use_settings(monkeypatch, **accommodations_settings))
    world.empty()
    return world


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
def run_until_write(world: World, worker_process: subprocess.Popen[str]) -> Callable[[int, str], bool]:
    """Run accommodations_consolidate in a worker that is killed just before its Nth write; whether it lived."""

    def run(write: int, run_id: str) -> bool:
        assert worker_process.stdin
        assert worker_process.stdout
        request = {
            "write": write,
            "steps": world.consolidate_steps,
            "run": run_id,
            "now": world.clock().isoformat(),
            "environment": {name: value for name, value in os.environ.items() if name.startswith("SLUICE_")},
        }
        worker_process.stdin.write(json.dumps(request) + "\n")
        worker_process.stdin.flush()
        code = int(worker_process.stdout.readline())
        assert code in (0, -9), "the worker failed by itself"
        return code == 0

    return run
