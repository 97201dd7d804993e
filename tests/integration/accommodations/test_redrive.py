"""A file that cannot be read becomes a dead letter, is fixed and sent back; nothing is lost or published twice."""

from __future__ import annotations

from typing import Any

from accommodations_world import a_record
from sluice.aws import sqs
from sluice.monitoring import dead_letters

QUEUE = "sluice-test-accommodations"
RECEIVES = 10


def test_an_unreadable_file_is_a_dead_letter_and_is_redriven_corrected(world: Any) -> None:
    bad = world.drop("bad.jsonl", b"this is a letter, not a catalogue\n")
    for receive in range(RECEIVES):
        world.drop(f"good-{receive}.jsonl", [a_record(str(receive), "A")])
        assert world.consolidate(f"run-{receive}")["published"] == 1
        assert world.unfinished() == 1
        world.redeliver(f"run-{receive}")
    assert world.consolidate("last") == {}
    assert (world.unfinished(), world.unfinished(sqs.DEAD_LETTERS)) == (0, 1)

    world.put("bad.jsonl", [a_record("mended", "A"), a_record("0", "T")])
    (letter,) = dead_letters.list_letters(world.settings, "accommodations", 100)
    assert bad in letter.about
    assert dead_letters.redrive(world.settings, "accommodations", 100, dry_run=False)[QUEUE]["redriven"] == 1
    assert (world.unfinished(), world.unfinished(sqs.DEAD_LETTERS)) == (1, 0)

    assert world.consolidate("redriven")["published"] == 2
    assert world.unfinished() == 0
    assert world.quarantined() == []
    # The batch of the corrected file has accommodation 0 from T; in the catalogue A, which came before, stays.
    assert world.published() == [(str(number), "A") for number in range(RECEIVES)] + [("0", "T"), ("mended", "A")]
    assert world.current()["0"] == ("A", "Hotel")
