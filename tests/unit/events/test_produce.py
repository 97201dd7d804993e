"""The labels of the producer are correct: tests and the demo rely on them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.aws import kinesis
from sluice.pipelines.events.dedup import dedup_hour
from sluice.pipelines.events.records import Envelope, record_text
from sluice.pipelines.events.transform import transform_batch, write_envelopes
from sluice_dev.samples import events
from sluice_dev.samples.events import Traffic, generate

START = datetime(2024, 4, 7, 17, tzinfo=UTC)
TRAFFIC = Traffic(3000, START, START + timedelta(hours=2), duplicates=0.1, late=0.05, malformed=0.1, seed=1)


def test_the_same_seed_gives_the_same_records_and_another_one_others() -> None:
    assert list(generate(TRAFFIC)) == list(generate(TRAFFIC))
    other = Traffic(3000, TRAFFIC.start, TRAFFIC.until, 0.1, 0.05, 0.1, seed=2)
    assert list(generate(other)) != list(generate(TRAFFIC))


def test_shares_come_out_as_they_were_asked_for() -> None:
    kinds: Counter[str] = Counter(each.kind for each in generate(TRAFFIC))
    assert sum(kinds.values()) == 3000
    for kind, share in {"duplicate": 0.1, "late": 0.05, "malformed": 0.1}.items():
        assert kinds[kind] == pytest.approx(3000 * share, rel=0.25)


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["duplicates", "late", "malformed"]))
def test_a_share_of_nothing_is_nothing(seed: int, kind: str) -> None:
    shares = {"duplicates": 0.3, "late": 0.3, "malformed": 0.3} | {kind: 0.0}
    kinds: Counter[str] = Counter(
        each.kind for each in generate(Traffic(50, TRAFFIC.start, TRAFFIC.until, seed=seed, **shares))
    )
    assert kinds[kind.removesuffix("s")] == 0


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the pipeline's own rules make of the records."""
    folder: Path = tmp_path_factory.mktemp("produce")
    arrived = datetime(2024, 4, 7, 20, tzinfo=UTC)
    envelopes = (
        Envelope("shardId-0", str(number), arrived, record_text(each.entry.data))
        for number, each in enumerate(generate(TRAFFIC))
    )
    write_envelopes(envelopes, folder / "envelopes.parquet")
    result = transform_batch([folder / "envelopes.parquet"], {}, folder / "raw")
    files = {each.hour: each.path for each in result.files}
    kept = {
        hour: dedup_hour(
            [path], [files[hour - timedelta(hours=1)]] if hour - timedelta(hours=1) in files else [], folder / str(hour)
        ).rows_out
        for hour, path in files.items()
    }
    return {"rejected": result.rows_rejected, "kept": kept}


def test_every_malformed_record_is_rejected_and_no_other(hours: dict[str, Any]) -> None:
    assert hours["rejected"] == sum(each.kind == "malformed" for each in generate(TRAFFIC))


def test_the_truth_is_what_the_dedup_leaves(hours: dict[str, Any]) -> None:
    truth = Counter(events.hour_of(each.created_at) for each in generate(TRAFFIC) if each.kind in ("event", "late"))
    assert hours["kept"] == dict(truth)


def test_records_are_counted_as_they_are_put(monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[kinesis.Entry] = []
    progress: list[int] = []

    def put_batch(stream: str, batch: list[kinesis.Entry]) -> int:
        put.extend(batch)
        return 1

    monkeypatch.setattr(kinesis, "put_batch", put_batch)
    made = events.produce(
        rate=1000, seconds=2, duplicates=0.1, late=0.1, malformed=0.1, seed=5, start=START, paced=False,
        progress=progress.append,
    )  # fmt: skip
    counts = made.counts
    assert counts["records"] == len(put) == sum(progress) == 2000
    assert counts["records"] == counts["distinct"] + counts["duplicates"] + counts["malformed"]
    assert counts["sent_again"] == len(progress)
    assert sum(made.truth.values()) == counts["distinct"]


def test_records_go_out_at_the_rate_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    sent: list[tuple[float, int]] = []

    def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    def put(_: str, batch: Sequence[Any]) -> int:
        sent.append((clock, len(batch)))
        return 0

    monkeypatch.setattr(time, "monotonic", lambda: clock)
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(kinesis, "put_batch", put)
    assert events.produce(rate=200, seconds=5, start=START).seconds == pytest.approx(5)
    assert sum(records for _, records in sent) == 1000
    assert max(records for _, records in sent) == 20, "a tenth of a second at a time"


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ({"late": 1.5}, "late is a share"),
        ({"malformed": -0.1}, "malformed is a share"),
        ({"duplicates": 0.6, "late": 0.6}, "1.2 together"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Traffic(1, START, START + timedelta(hours=1), **shares)


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="must be later"):
        Traffic(1, START, START)
