"""That the benchmark measures the same work on both sides; not how fast it is."""

from __future__ import annotations

import pytest
from benchmarks.bench_modules import contestant
from benchmarks.contest import run_process

from modules_world import World

MESSAGES = 300


@pytest.mark.parametrize("name", ["sluice", "baseline: bare requests"])
def test_each_contestant_stores_every_message_and_leaves_an_empty_queue(world: World, name: str) -> None:
    assert run_process(contestant(name, MESSAGES).arguments).rows == MESSAGES
    assert len(world.stored()) == MESSAGES
    assert world.unfinished() == (0, 0)
