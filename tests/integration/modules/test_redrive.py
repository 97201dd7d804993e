"""Dead letters of both queues go back, and a diagnostic that comes back overtakes no later one."""

from __future__ import annotations

import json

from modules_world import World, send_raw
from sluice.aws import sqs
from sluice.monitoring import dead_letters


def diagnostic(attempts: int) -> str:
    return json.dumps({"moduleId": "a", "timestamp": 5, "attempts": attempts})


def redrive(world: World) -> None:
    dead_letters.redrive(world.settings, "modules", 100, dry_run=False)


def test_messages_and_diagnostics_come_back_and_give_their_rate(world: World) -> None:
    for queue, body in (
        (world.settings.recv_message_queue, '{"moduleId": "a", "timestamp": 3}'),
        (world.settings.weekly_diagnostic_queue, diagnostic(4)),
    ):
        send_raw(sqs.queue_url(queue + sqs.DEAD_LETTERS), [body])
    found = dead_letters.list_letters(world.settings, "modules", 100)
    assert [each.about for each in found] == ["message of module a at 3", "diagnostic of module a at 5, 4 attempts"]
    redrive(world)
    assert world.unfinished() == (1, 1)
    assert world.run("run")["rates"] == 1
    assert world.published() == [("a", 5, 25.0)]


def test_a_diagnostic_that_comes_back_is_older_than_its_correction(world: World) -> None:
    # Delivered raw, it says nowhere but in the queue when it was sent.
    world.store_messages("a", [3])
    send_raw(sqs.queue_url(world.settings.weekly_diagnostic_queue + sqs.DEAD_LETTERS), [diagnostic(4)])
    send_raw(world.diagnostics_url, [diagnostic(2)])
    world.run("correction")
    assert world.published() == [("a", 5, 50.0)]
    redrive(world)
    assert world.run("redriven")["duplicates"] == 1
    assert world.published() == []
