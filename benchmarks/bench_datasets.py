"""A CSV of 1 GB, 1 % of its rows malformed, aggregated by dp into one parquet file; bad rows to a file of their own.

The baseline reads and writes the bytes of the file. DuckDB and pandas validate rows by casts only, without line
numbers, and add percentages up in any order; pandas holds the file in memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.contest import Contestant, Stopwatch, run_contest, size_mb

ROWS = 16_500_000
QUICK_ROWS = 100_000
DPS = 1000
COLUMNS = ("id", "class", "memory", "percentage", "ratio", "fob", "dp", "recovered")


def run(console: Console, *, quick: bool, rounds: int) -> None:
    """Generate the file, run the contest, and print its table."""
    rows = QUICK_ROWS if quick else ROWS
    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with console.status(f"generating {rows:,} rows"):
            program = f"from benchmarks.bench_datasets import generate; generate({str(folder)!r}, {rows})"
            # Apart: Linux counts the memory of a parent to the peak of its children.
            subprocess.run([sys.executable, "-c", program], check=True)
        run_contest(
            f"Datasets: {rows:,} rows, {size_mb([folder / 'rows.csv']):,.0f} MB, 1 % malformed, {DPS} dps;"
            f" {os.cpu_count()} cores",
            [
                contestant("sluice", "aggregate_sluice", folder),
                contestant("baseline: copy of the bytes", "aggregate_baseline", folder),
                contestant("DuckDB, casts alone", "aggregate_duckdb", folder),
                contestant("pandas", "aggregate_pandas", folder, "<= 0.33"),
            ],
            min(rounds, 3),
            console,
        )


def contestant(name: str, function: str, folder: Path, goal: str = "") -> Contestant:
    """A function of this module as a contestant."""
    return Contestant(name, ["benchmarks.bench_datasets", function, str(folder)], goal)


def generate(folder: str, rows: int) -> None:
    """Write `rows.csv`: the same on every machine."""
    import duckdb

    with duckdb.connect(config={"memory_limit": "1GiB", "threads": 1}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(
            f"""
            COPY (
                SELECT
                    md5(number::VARCHAR)[1:12] AS id,
                    'class' || hash(number) % 20 AS class,
                    CASE WHEN number % 400 = 7 THEN '99999' WHEN number % 400 = 107 THEN '12.5'
                        ELSE (hash(number * 3) % 32768)::VARCHAR END AS memory,
                    CASE WHEN number % 400 = 207 THEN 'unknown'
                        ELSE ((hash(number * 7) % 1000000007) / 1000000007.0)::VARCHAR END AS percentage,
                    CASE WHEN number % 400 = 307 THEN ''
                        ELSE ((hash(number * 11) % 1000003) / 1000.0)::VARCHAR END AS ratio,
                    'fob' || number % 97 AS fob,
                    'dp' || hash(number * 13) % {DPS} AS dp,
                    hash(number) % 2 AS recovered
                FROM range({rows}) AS numbers (number)
            ) TO '{folder}/rows.csv' (HEADER, DELIMITER ',')
            """
        )


def aggregate_sluice(folder: Path, out: Path) -> None:
    import duckdb  # noqa: F401
    import numpy  # noqa: F401
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401

    from sluice.pipelines.datasets.transform import aggregate_file

    with Stopwatch() as watch:
        watch.rows = aggregate_file(folder / "rows.csv", "rows.csv", out, memory_limit_mb=512).accepted


def aggregate_baseline(folder: Path, out: Path) -> None:
    with Stopwatch() as watch:
        # Not copyfile(), which leaves the bytes to the kernel.
        with (folder / "rows.csv").open("rb") as source, (out / "rows.csv").open("wb") as target:
            shutil.copyfileobj(source, target, 8 * 1024 * 1024)
        watch.rows = 0


AGGREGATES = """dp, min(memory) AS memory_min, max(memory) AS memory_max, count(*) AS memory_count,
    max(percentage) AS percentage_max, avg(percentage) AS percentage_avg, max(ratio) AS ratio_max"""


def aggregate_duckdb(folder: Path, out: Path) -> None:
    import duckdb

    columns = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in COLUMNS) + "}"
    with Stopwatch() as watch, duckdb.connect(config={"memory_limit": "512MiB"}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(
            f"""
            CREATE VIEW rows AS
            SELECT *,
                memory IS NOT NULL AND percentage BETWEEN 0 AND 1 AND isfinite(ratio) AND recovered IS NOT NULL AS good
            FROM (
                SELECT dp, CASE WHEN NOT contains(memory, '.') THEN TRY_CAST(memory AS SMALLINT) END AS memory,
                    TRY_CAST(percentage AS DOUBLE) AS percentage, TRY_CAST(ratio AS DOUBLE) AS ratio,
                    TRY_CAST(recovered AS TINYINT) AS recovered
                FROM read_csv('{folder}/rows.csv', auto_detect = false, header = true, columns = {columns})
            )
            """
        )
        connection.execute(
            f"COPY (SELECT {AGGREGATES} FROM rows WHERE good GROUP BY dp ORDER BY dp) TO '{out}/out.parquet'"
        )
        connection.execute(f"COPY (FROM rows WHERE good IS NOT TRUE) TO '{out}/rejected.json'")
        counted: Any = connection.execute(f"SELECT sum(memory_count) FROM '{out}/out.parquet'").fetchone()
        watch.rows = int(counted[0])


def aggregate_pandas(folder: Path, out: Path) -> None:
    import pandas as pd
    import pyarrow.parquet  # noqa: F401

    with Stopwatch() as watch:
        frame = pd.read_csv(folder / "rows.csv", dtype=str, keep_default_na=False)
        memory, percentage, ratio, recovered = (
            pd.to_numeric(frame[name], errors="coerce") for name in ("memory", "percentage", "ratio", "recovered")
        )
        good = (
            memory.between(-32768, 32767)
            & (memory % 1 == 0)
            & percentage.between(0, 1)
            & ratio.between(-1.7e308, 1.7e308)
            & recovered.between(-128, 127)
            & (frame["dp"] != "")
        )
        frame[~good].to_json(out / "rejected.jsonl", orient="records", lines=True)
        numbers = pd.DataFrame({"dp": frame["dp"], "memory": memory, "percentage": percentage, "ratio": ratio})[good]
        groups = numbers.groupby("dp", sort=True)
        aggregated = groups.agg(
            memory_min=("memory", "min"),
            memory_max=("memory", "max"),
            memory_count=("memory", "count"),
            percentage_max=("percentage", "max"),
            percentage_avg=("percentage", "mean"),
            ratio_max=("ratio", "max"),
        )
        types = {"memory_min": "int16", "memory_max": "int16", "memory_count": "int64"}
        aggregated.astype(types).to_parquet(out / "out.parquet")
        watch.rows = int(aggregated["memory_count"].sum())


def main(function: str, folder: str) -> None:
    """Run one contestant."""
    work: Callable[[Path, Path], None] = globals()[function]
    with TemporaryDirectory(dir=folder) as out:
        work(Path(folder), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
