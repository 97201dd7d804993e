"""A file that cannot be read becomes a dead letter, is mended and sent back; nothing is lost or published twice."""

from __future__ import annotations

from typing import Any

import pytest

from accommodations_world import a_record
from sluice import sqs
from sluice.accommodations import steps
from sluice.aws import client

RECEIVES = 10


def test_a_file_that_never_parses_is_a_dead_letter_after_ten_receives_and_comes_back_mended(world: Any) -> None:
    bad = world.drop("bad.jsonl", b"this is a letter, not a catalogue\n")
    for receive in range(RECEIVES):
        world.drop(f"good-{receive}.jsonl", [a_record(str(receive), "A")])
        assert world.consolidate(f"run-{receive}")["published"] == 1
        assert world.unfinished() == 1
        world.redeliver(f"run-{receive}")
    assert world.consolidate("last") == {}
    assert (world.unfinished(), world.unfinished(world.dead_letters_url)) == (0, 1)

    world.put("bad.jsonl", [a_record("mended", "A"), a_record("0", "T")])
    looked = steps.inspect(100)
    assert looked["messages"] == 1
    assert bad in looked["files"][0]
    assert steps.redrive(100, dry_run=True) == {"redriven": 0}
    assert (world.unfinished(), world.unfinished(world.dead_letters_url)) == (0, 1)
    assert steps.redrive(100, dry_run=False) == {"redriven": 1}
    assert (world.unfinished(), world.unfinished(world.dead_letters_url)) == (1, 0)

    assert world.consolidate("redriven")["published"] == 2
    assert world.unfinished() == 0
    assert world.quarantined() == []
    # The batch of the mended file has accommodation 0 from T; in the catalogue A, which came before, stays.
    assert world.published() == [(str(number), "A") for number in range(RECEIVES)] + [("0", "T"), ("mended", "A")]
    assert world.current()["0"] == ("A", "Hotel")
    assert steps.redrive(100, dry_run=False) == {"redriven": 0}


def test_a_redrive_that_dies_between_sending_and_deleting_loses_nothing_and_doubles_nothing(
    world: Any, monkeypatch: Any
) -> None:
    key = world.put("a.jsonl", [a_record("1", "A")])
    for _ in range(12):
        client("sqs").send_message(QueueUrl=world.dead_letters_url, MessageBody=world.event(key))

    def die(url: str, receipt_handles: list[str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqs, "BRIEF_SECONDS", 1)
        patch.setattr(sqs, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            steps.redrive(100, dry_run=False)
    assert world.unfinished() == sqs.BATCH_SIZE
    assert world.unfinished(world.dead_letters_url) == 12
    assert world.consolidate("one")["published"] == 1
    assert world.unfinished() == 0


def test_a_look_leaves_dead_letters_for_who_comes_next(world: Any) -> None:
    client("sqs").send_message(QueueUrl=world.dead_letters_url, MessageBody="no json")
    for _ in range(2):
        assert steps.inspect(10)["messages"] == 1
