"""Two runs that judge the same module at the same time: the last received rate is correct after both have ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modules_world import World
from sluice.aws import sns
from sluice.pipelines.modules import steps


def prepare(run: str) -> dict[str, int]:
    """A run until its rates are computed."""
    collected = steps.collect(run)
    steps.store(run)
    steps.compute_rates(run)
    return collected


@pytest.fixture
def slow(world: World) -> dict[str, int]:
    """A run that has read the diagnostic of 20, and not that of 10, after which the module was reset."""
    world.message("a", 1, 2, 11)
    world.diagnostic("a", 20, 4)
    collected = prepare("slow")
    world.diagnostic("a", 10, 8)
    return collected


def settle(world: World) -> dict[tuple[str, int], float]:
    """The last received rates after all redelivered messages were processed."""
    heard = world.published()
    world.redeliver()
    world.run("later")
    assert world.unfinished() == (0, 0)
    last = {(module_id, timestamp): rate for module_id, timestamp, rate in [*heard, *world.published()]}
    assert last == world.rates()
    return last


TRUTH = {("a", 10): 25.0, ("a", 20): 25.0}


def test_a_run_that_overtakes_leaves_it_to_the_next_run(world: World, slow: dict[str, int]) -> None:
    fast = prepare("fast")
    steps.publish_rates("slow", slow)
    with pytest.raises(steps.RatesOutdated):
        steps.publish_rates("fast", fast)
    assert settle(world) == TRUTH


@pytest.mark.parametrize("first", ["slow", "fast"])
def test_two_runs_that_publish_at_the_same_moment(
    world: World, slow: dict[str, int], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    fast = prepare("fast")
    collected = {"slow": slow, "fast": fast}
    second = "fast" if first == "slow" else "slow"
    publish: Callable[..., None] = sns.publish_batch

    def publish_between(arn: str, bodies: list[str]) -> None:
        # Both have looked; the other one publishes and notes before this one does.
        monkeypatch.setattr(sns, "publish_batch", publish)
        steps.publish_rates(second, collected[second])
        publish(arn, bodies)

    monkeypatch.setattr(sns, "publish_batch", publish_between)
    with pytest.raises(steps.RatesOutdated):
        steps.publish_rates(first, collected[first])
    assert settle(world) == TRUTH
