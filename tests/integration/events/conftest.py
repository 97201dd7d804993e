from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from events_world import World
from killed_worker import KilledWorker
from sluice.settings import Settings


@pytest.fixture
def world(settings: Settings) -> World:
    """An account with the lake and what the events pipeline stands on."""
    return World(settings)


@pytest.fixture
def run_until_write(world: World, killed_worker: KilledWorker) -> Callable[..., bool]:
    """Run steps in a worker that is killed just before its Nth write; whether it lived to the end."""

    def run(write: int, names: tuple[str, ...], run_id: str, hour: datetime | None = None) -> bool:
        return killed_worker.run("events", write, names, run_id, world.now, hour)

    return run
