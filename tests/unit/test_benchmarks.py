"""That the benchmarks work and measure the same work; not how fast it is."""

from __future__ import annotations

import importlib.util
from io import StringIO
from pathlib import Path

import pytest
from benchmarks import bench_events
from benchmarks.contest import Contestant, run_contest, run_process
from rich.console import Console

EVENTS = 5_000


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "hour"
    bench_events.generate(folder, EVENTS, envelopes=True)
    return folder


@pytest.mark.parametrize("function", ["transform_sluice", "transform_baseline", "transform_loop", "transform_pandas"])
def test_each_transform_gives_all_events(hour: Path, function: str) -> None:
    run = run_process(["benchmarks.bench_events", function, str(hour)])
    assert run.rows == EVENTS
    assert run.seconds > 0
    assert run.peak_mb > 10


@pytest.mark.parametrize("function", ["dedup_sluice", "dedup_sluice_small_memory", "dedup_pandas", "dedup_polars"])
def test_each_dedup_gives_the_same_number_of_events(hour: Path, function: str) -> None:
    if function == "dedup_polars" and not importlib.util.find_spec("polars"):
        pytest.skip("needs the group bench")
    rows = run_process(["benchmarks.bench_events", function, str(hour)]).rows
    assert rows < EVENTS
    assert rows == run_process(["benchmarks.bench_events", "dedup_sluice", str(hour)]).rows


def test_the_table_shows_ratios_and_contestants_that_failed(hour: Path) -> None:
    console = Console(file=StringIO(), width=110)
    contestants = [
        bench_events.contestant("ours", "dedup_sluice", hour),
        bench_events.contestant("baseline", "dedup_baseline", hour, "<= 1.30"),
        Contestant("broken", ["benchmarks.bench_events", "no_such_function", str(hour)]),
    ]
    run_contest("Dedup", contestants, 1, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "<= 1.30" in text
    assert "did not run" in text
    assert "no_such_function" in text
