from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.core.tally import Tally, TallyError

counts = st.integers(0, 10**6)


@given(counts, counts, counts)
def test_records_that_are_all_accounted_for_pass(published: int, duplicates: int, quarantined: int) -> None:
    records_in = published + duplicates + quarantined
    assert Tally(records_in, published, duplicates, quarantined).checked("run") == {
        "records_in": records_in,
        "published": published,
        "duplicates": duplicates,
        "quarantined": quarantined,
    }


@given(counts, counts, counts, st.integers().filter(bool))
def test_one_record_too_few_or_too_many_is_an_error(
    published: int, duplicates: int, quarantined: int, off_by: int
) -> None:
    tally = Tally(published + duplicates + quarantined + off_by, published, duplicates, quarantined)
    with pytest.raises(TallyError, match="records were lost or counted twice"):
        tally.checked("run")


def test_the_sum_is_logged_and_an_error_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sluice")
    Tally(10, 7, 2, 1).checked("run-1")
    assert caplog.messages == ["run-1: 10 records in = 7 published + 2 duplicates + 1 quarantined"]
    with pytest.raises(TallyError, match=r"^run-2: 10 records in = 7 published \+ 2 duplicates \+ 0 quarantined"):
        Tally(10, 7, 2).checked("run-2")
