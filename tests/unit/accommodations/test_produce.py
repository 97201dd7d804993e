"""The expected results of the producer are those of the rule, and its malformed records are rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sluice_dev.samples.accommodations import Catalogues, expected, generate
from unit.accommodations.test_rule import NOW, consolidate

WHAT = Catalogues(partners=4, accommodations=200, overlap=0.6, malformed=0.2, file_records=40, seed=3)


def test_the_same_seed_gives_the_same_files_and_another_one_others() -> None:
    assert generate(WHAT) == generate(WHAT)
    assert generate(WHAT) != generate(replace(WHAT, seed=4))


def test_what_it_says_is_what_comes_out(tmp_path: Path) -> None:
    files, offered = generate(WHAT)
    blocked = WHAT.names[:1]
    lines, result = consolidate([(file.body, NOW) for file in files], WHAT.priority, blocked, tmp_path)
    found = {
        line["accommodation_id"]: (line["partner_name"], line["accommodation_data"]["accommodation_name"])
        for line in lines
    }
    assert found == expected(offered, WHAT.priority, blocked)
    assert len(found) < len(offered), "somebody must be left out: offered by a blocked partner or one on no list only"
    assert result.counts["quarantined"] == sum(file.malformed for file in files)
    assert result.counts["records_in"] == sum(file.records for file in files)


def test_the_share_of_malformed_records_is_the_one_asked_for() -> None:
    files, _ = generate(replace(WHAT, accommodations=2000, malformed=0.5))
    assert 0.45 < sum(file.malformed for file in files) / sum(file.records for file in files) < 0.55


@pytest.mark.parametrize("shape", [{"malformed": 1.0}, {"malformed": -0.1}, {"overlap": 1.1}, {"partners": 0}])
def test_shapes_that_cannot_be_are_refused(shape: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(shape))):
        Catalogues(**shape)  # type: ignore[arg-type]
