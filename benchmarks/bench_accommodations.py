"""Consolidation of 1 GB of partners' files: 3.6 million records in 8 files of JSON Lines, a fifth of them overlapping.

The baseline reads and writes the same with none of the rules: DuckDB, from JSON Lines to JSON Lines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.contest import Contestant, Stopwatch, run_contest, size_mb

RECORDS = 3_600_000
QUICK_RECORDS = 20_000
FILES = 8
PARTNERS = [f"partner-{number:02d}" for number in range(10)]
PRIORITY = PARTNERS[:9]
"""The tenth is on no list."""

MEMORY_LIMIT_MB = 512
MAX_BYTES = 500_000
START = datetime(2026, 11, 21, tzinfo=UTC)


def run(console: Console, *, quick: bool, rounds: int) -> None:
    """Generate the files, run the contest, and print its table."""
    records = QUICK_RECORDS if quick else RECORDS
    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with console.status(f"generating {records:,} records"):
            generate_apart(folder, records)
        console.print(
            f"{records:,} records in {FILES} files of {size_mb(files_of(folder)):.0f} MB;"
            f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        run_contest(
            "Consolidation: partners' files to packed files of 500,000 bytes, in less than 1 GB of memory",
            [
                contestant("sluice", "consolidate_sluice", folder),
                contestant("baseline: JSON to JSON", "consolidate_baseline", folder, "<= 1.50"),
                contestant("sluice, current catalogue too", "consolidate_and_merge", folder),
                contestant("loop over records", "consolidate_loop", folder),
                contestant("pandas", "consolidate_pandas", folder),
            ],
            min(rounds, 3),
            console,
        )


def contestant(name: str, function: str, folder: Path, goal: str = "") -> Contestant:
    """A function of this module as a contestant."""
    return Contestant(name, ["benchmarks.bench_accommodations", function, str(folder)], goal)


def generate_apart(folder: Path, records: int) -> None:
    """Generate in a process of its own: Linux counts the memory of a parent to the peak of its children."""
    call = f"generate(Path({str(folder)!r}), {records})"
    program = f"from pathlib import Path; from benchmarks.bench_accommodations import generate; {call}"
    subprocess.run([sys.executable, "-c", program], check=True)


def generate(folder: Path, records: int) -> None:
    """Write `in/`: the same on every machine; every fifth record is of an accommodation that another partner has."""
    import duckdb

    (folder / "in").mkdir(parents=True)
    with duckdb.connect(config={"memory_limit": "1GiB", "temp_directory": str(folder / "spill")}) as connection:
        connection.execute("SET enable_progress_bar = false")
        for file in range(FILES):
            connection.execute(
                f"""COPY (
                    SELECT '{{"partner_name": "partner-' || lpad((hash(n * 3) % {len(PARTNERS)})::VARCHAR, 2, '0')
                        || '", "accommodation_id": "' || substr(md5(a::VARCHAR), 1, 12)
                        || '", "accommodation_data": {{"accommodation_name": "Hôtel ' || a
                        || '", "accommodation_address": "' || a % 997 || ' Long Street Name of the City, ' || n
                        || '", "accommodation_geocodes": "' || (hash(n) % 18000)::INT / 100 || ','
                        || (hash(n * 5) % 36000)::INT / 100 || '", "accommodation_city": "'
                        || (['Lisboa', 'München', 'New York', '京都', 'São Paulo'])[1 + (hash(a) % 5)::INT] || '"}}}}'
                    FROM (
                        SELECT n, CASE WHEN n % 5 = 0 THEN (hash(n) % {records})::BIGINT ELSE n END AS a
                        FROM range({file * records // FILES}, {(file + 1) * records // FILES}) AS numbers (n)
                    )
                ) TO '{folder}/in/{file}.jsonl' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')"""
            )


def files_of(folder: Path) -> list[Path]:
    return sorted((folder / "in").glob("*.jsonl"))


def consolidate_sluice(folder: Path, out: Path, *, is_merged: bool = False) -> None:
    import duckdb  # noqa: F401
    import numpy as np  # noqa: F401
    import pyarrow.dataset  # noqa: F401

    from sluice.pipelines.accommodations.current import merge_bucket, newest_bytes, plan_buckets, write_newest
    from sluice.pipelines.accommodations.records import PartnerFile
    from sluice.pipelines.accommodations.transform import consolidate_batch, consolidation, read_files

    files = {
        number: (PartnerFile("landing", path.name, "1", START + timedelta(minutes=number), 0), path)
        for number, path in enumerate(files_of(folder))
    }
    with Stopwatch() as watch, consolidation(out, MEMORY_LIMIT_MB) as connection:
        read_files(connection, out, files)
        result = consolidate_batch(connection, PRIORITY, [], out / "out")
        watch.rows = result.counts["published"]
        if is_merged:
            buckets = plan_buckets(1, newest_bytes(connection))
            newest, new = write_newest(connection, result.ranges, 1, buckets, out)
            for bucket in new:
                targets = out / f"candidates-{bucket}.parquet", out / f"current-{bucket}.parquet"
                merge_bucket(connection, newest, bucket, buckets, 1, *targets)


def consolidate_and_merge(folder: Path, out: Path) -> None:
    consolidate_sluice(folder, out, is_merged=True)


def consolidate_baseline(folder: Path, out: Path) -> None:
    import duckdb

    config: Any = {"memory_limit": f"{MEMORY_LIMIT_MB}MiB", "temp_directory": str(out / "spill")}
    with Stopwatch() as watch, duckdb.connect(config=config) as connection:
        connection.execute("SET enable_progress_bar = false")
        (watch.rows,) = connection.execute(
            f"COPY (FROM read_json('{folder}/in/*.jsonl', format = 'newline_delimited'))"
            f" TO '{out}/all.jsonl' (FORMAT json)"
        ).fetchall()[0]


def consolidate_loop(folder: Path, out: Path) -> None:
    places = {name: place for place, name in enumerate(PRIORITY)}
    with Stopwatch() as watch:
        best: dict[str, tuple[int, dict[str, Any]]] = {}
        for path in files_of(folder):
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    record = json.loads(line)
                    key, place = record["accommodation_id"], places.get(record["partner_name"])
                    if not isinstance(key, str) or not isinstance(record["accommodation_data"], dict):
                        raise ValueError(record)
                    if place is not None and (key not in best or place <= best[key][0]):
                        best[key] = (place, record)
        write_packed(
            (
                json.dumps(
                    {name: best[key][1][name] for name in ("accommodation_id", "partner_name", "accommodation_data")},
                    ensure_ascii=False,
                    separators=(",", ":"),
                )
                for key in sorted(best)
            ),
            out,
        )
        watch.rows = len(best)


def consolidate_pandas(folder: Path, out: Path) -> None:
    import pandas as pd

    with Stopwatch() as watch:
        frame = pd.concat([pd.read_json(path, lines=True) for path in files_of(folder)], ignore_index=True)
        frame["place"] = frame["partner_name"].map({name: place for place, name in enumerate(PRIORITY)})
        frame = frame.dropna(subset=["place"]).iloc[::-1]
        frame = frame.sort_values(["accommodation_id", "place"], kind="stable").drop_duplicates("accommodation_id")
        frame = frame[["accommodation_id", "partner_name", "accommodation_data"]]
        write_packed(frame.to_json(orient="records", lines=True, force_ascii=False).splitlines(), out)
        watch.rows = len(frame)


def write_packed(lines: Any, out: Path) -> None:
    """Write lines to files of at most `MAX_BYTES`."""
    number, size, chunk = 0, 0, []
    for line in lines:
        encoded = line.encode() + b"\n"
        if size + len(encoded) > MAX_BYTES:
            (out / f"{number}.jsonl").write_bytes(b"".join(chunk))
            number, size, chunk = number + 1, 0, []
        chunk.append(encoded)
        size += len(encoded)
    (out / f"{number}.jsonl").write_bytes(b"".join(chunk))


def main(function: str, folder: str) -> None:
    """Run one contestant."""
    work: Callable[[Path, Path], None] = globals()[function]
    with TemporaryDirectory(dir=folder) as out:
        work(Path(folder), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
