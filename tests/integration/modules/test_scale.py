"""The cost of a rate depends on the messages of its module only."""

from __future__ import annotations

from collections import Counter

from embedded_aws import FaultInjection
from modules_world import World
from sluice.aws.sessions import client
from sluice.pipelines.modules import steps, storage

MESSAGES = 10_000
LONG_ID = "m" * 250
"""A page of DynamoDB holds 1 MB, keys included: with a long id it is full after few messages."""


def test_the_messages_of_a_module_are_counted_over_all_pages(world: World, faults: FaultInjection) -> None:
    world.store_messages(LONG_ID, range(1, MESSAGES + 1))
    world.store_messages("n", range(1, 501))
    world.diagnostic(LONG_ID, MESSAGES - 1, 2 * MESSAGES)
    before = faults.requests()
    world.run("run")
    assert world.published() == [(LONG_ID, MESSAGES - 1, 100 * (MESSAGES - 1) / (2 * MESSAGES))]
    # One of them reads the diagnostics of the module.
    assert (faults.requests() - before)["dynamodb", "Query"] - 1 >= 2, "that was one page"


def test_a_count_reads_the_messages_that_it_counts_and_no_others(world: World) -> None:
    for module_id, messages in (("a", 300), ("b", 500), ("aa", 100)):
        world.store_messages(module_id, range(1, messages + 1))
    read: list[int] = []
    client("dynamodb").meta.events.register(
        "after-call.dynamodb.Query", lambda parsed, **_: read.append(parsed["ScannedCount"])
    )
    for after, until, count in ((0, 300, 300), (100, 150, 50), (300, 400, 0), (0, 2**64 - 1, 300)):
        assert storage.count_messages(world.settings.modules_message_table, "a", after, until) == count
        assert sum(read) == count
        read.clear()


def test_the_requests_of_a_run_do_not_grow_with_what_the_tables_hold(world: World, faults: FaultInjection) -> None:
    def requests_of_a_run(week: int) -> Counter[tuple[str, str]]:
        world.message("a", week * 10 + 1)
        world.diagnostic("a", week * 10 + 5, 100)
        before = faults.requests()
        world.run(f"week-{week}")
        asked = faults.requests() - before
        # Iceberg reads a manifest for each of the last commits, up to 20, at which it merges them.
        return Counter({call: count for call, count in asked.items() if call[0] != "s3"})

    requests_of_a_run(0)
    first = requests_of_a_run(1)
    for number in range(20):
        world.store_messages(f"other-{number}", range(1, 101))
        world.diagnostic(f"other-{number}", 50, 100)
    world.run("others")
    assert requests_of_a_run(2) == first


def test_diagnostics_that_wait_together_count_each_message_once(world: World, faults: FaultInjection) -> None:
    world.store_messages("a", range(1, 401))
    for week in range(1, 41):
        world.diagnostic("a", 10 * week, 20 * week)
    asked: list[tuple[int, int]] = []
    count = storage.count_messages

    def counted(table: str, module_id: str, after: int, until: int) -> int:
        asked.append((after, until))
        return count(table, module_id, after, until)

    collected = steps.collect("run")
    steps.store("run")
    storage.count_messages = counted
    try:
        steps.compute_rates("run")
    finally:
        storage.count_messages = count
    steps.publish_rates("run", collected)
    assert asked == [(10 * week, 10 * week + 10) for week in range(40)]
    assert {rate for _, _, rate in world.published()} == {50.0}
