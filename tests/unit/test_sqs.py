"""Batches as SQS takes them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.aws import sqs
from sluice.aws.sqs import DeadLetter

bodies = st.one_of(st.text(max_size=20), st.sampled_from(["x" * 100_000, "\u00e9" * 130_000, "y" * 300_000]))
letters = st.lists(st.builds(lambda body: DeadLetter("id", "handle", body, 0, 1, {}), bodies), max_size=40)


@given(letters)
@settings(max_examples=50)
def test_batches_hold_every_message_in_order_and_no_more_than_sqs_takes(given_letters: list[DeadLetter]) -> None:
    batches = sqs.batches_to_send(given_letters)
    assert [letter for batch in batches for letter in batch] == given_letters
    for batch in batches:
        assert 1 <= len(batch) <= sqs.BATCH_SIZE
        assert len(batch) == 1 or sum(letter.size_bytes for letter in batch) <= sqs.BATCH_BYTES
