"""That the contestants of the benchmark work and accept the same rows; not how fast they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import bench_datasets
from benchmarks.contest import run_process

ROWS = 4_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bench")
    bench_datasets.generate(str(made), ROWS)
    return made


@pytest.mark.parametrize("function", ["aggregate_sluice", "aggregate_duckdb", "aggregate_pandas"])
def test_each_contestant_accepts_the_rows_that_are_not_malformed(folder: Path, function: str) -> None:
    assert run_process(["benchmarks.bench_datasets", function, str(folder)]).rows == ROWS * 99 // 100
