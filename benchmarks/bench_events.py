"""Transform and dedup of one hour of events: 1.08 million, 8 % of them duplicates, from 4 shards in 12 batches.

The baselines read and write the same with none of the rules: DuckDB from JSON, or parquet, to one parquet file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.contest import Contestant, Stopwatch, run_contest, size_mb

EVENTS = 1_080_000
LARGE_EVENTS = 20_000_000
QUICK_EVENTS = 20_000
SHARDS = 4
BATCHES = 12
START = 1712509200
"""2024-04-07T17:00:00 UTC."""

KNOWN_COLUMNS = {"user_id": "BIGINT", "country": "VARCHAR", "amount": "DOUBLE"}
STRUCTURE = {"event_uuid": "VARCHAR", "event_name": "VARCHAR", "created_at": "DOUBLE", **KNOWN_COLUMNS}
NAMES = [
    "account:created",
    "account:deleted",
    "lesson:video:started",
    "lesson:quiz:finished",
    "payment:order:failed",
    "user:login",
    "user:logout",
    "ping",
]


def run(console: Console, *, quick: bool, rounds: int) -> None:
    """Generate the hour, run the contests, and print their tables."""
    events = QUICK_EVENTS if quick else EVENTS
    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with console.status(f"generating {events:,} events"):
            generate_apart(folder, events, envelopes=True)
        console.print(
            f"{events:,} events, 8 % duplicates: records of {size_mb(files_of(folder, 'envelopes')):.0f} MB,"
            f" {len(files_of(folder, 'raw'))} raw files of {size_mb(files_of(folder, 'raw')):.0f} MB;"
            f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        run_contest(
            "Transform: records to one parquet file for each hour and shard",
            [
                contestant("sluice", "transform_sluice", folder),
                contestant("baseline: JSON to parquet", "transform_baseline", folder, "<= 1.50"),
                contestant("loop over records", "transform_loop", folder, "<= 0.10"),
                contestant("pandas", "transform_pandas", folder),
            ],
            min(rounds, 3),
            console,
        )
        run_contest(
            "Dedup: raw files to one row for each uuid",
            [
                contestant("sluice", "dedup_sluice", folder),
                contestant("baseline: copy", "dedup_baseline", folder, "<= 1.30"),
                contestant("pandas", "dedup_pandas", folder, "<= 0.50"),
                contestant("polars", "dedup_polars", folder),
                contestant("PySpark, same SQL", "dedup_spark", folder, "<= 0.10"),
            ],
            rounds,
            console,
        )
    large = QUICK_EVENTS * 5 if quick else LARGE_EVENTS
    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with console.status(f"generating {large:,} events"):
            generate_apart(folder, large, envelopes=False)
        run_contest(
            f"Dedup of {large:,} events ({size_mb(list(folder.glob('raw/*'))):,.0f} MB) in less than 1 GB of memory",
            [
                contestant("sluice", "dedup_sluice_small_memory", folder),
                contestant("baseline: copy", "dedup_baseline", folder),
            ],
            1,
            console,
        )


def contestant(name: str, function: str, folder: Path, goal: str = "") -> Contestant:
    """A function of this module as a contestant."""
    return Contestant(name, ["benchmarks.bench_events", function, str(folder)], goal)


def generate_apart(folder: Path, events: int, *, envelopes: bool) -> None:
    """Generate in a process of its own: Linux counts the memory of a parent to the peak of its children."""
    call = f"generate(Path({str(folder)!r}), {events}, envelopes={envelopes})"
    program = f"from pathlib import Path; from benchmarks.bench_events import generate; {call}"
    subprocess.run([sys.executable, "-c", program], check=True)


def generate(folder: Path, events: int, *, envelopes: bool) -> None:
    """Write `raw/` and, on request, `envelopes/`: the same on every machine."""
    import duckdb

    folder.mkdir(exist_ok=True)
    (folder / "raw").mkdir()
    (folder / "envelopes").mkdir()
    names = "[" + ", ".join(f"'{name}'" for name in NAMES) + "]"
    # event `number` is new, or (2 of 25) repeats one of the thousand before it
    events_query = f"""
        SELECT number, k, 'shardId-' || lpad((k % {SHARDS})::VARCHAR, 12, '0') AS shard_id,
            '4961833027149025660855969253836157109592157598' || (1000000000 + number)::VARCHAR AS sequence_number,
            make_timestamp({START}::BIGINT * 1000000 + number * 3600000000 // {events} + 200000) AT TIME ZONE 'UTC'
                AS arrived_at,
            concat_ws('-', md5[1:8], md5[9:12], '4' || md5[14:16], '8' || md5[18:20], md5[21:32]) AS event_uuid,
            ({names})[1 + (hash(k) % {len(NAMES)})::BIGINT] AS event_name,
            round({START} + k * 3600.0 / {events}, 6) AS created_at,
            (hash(k * 7) % 1000003)::BIGINT AS user_id,
            (['DE', 'FR', 'US', 'IN', 'BR'])[1 + (hash(k * 3) % 5)::BIGINT] AS country,
            (hash(k * 11) % 100000)::BIGINT / 100 AS amount
        FROM (SELECT *, md5(k::VARCHAR) AS md5 FROM (
            SELECT number, CASE WHEN number % 25 IN (3, 20) AND number > 1010
                THEN (number // 25 - 1 - (hash(number) % 30)::BIGINT) * 25 + (hash(number) % 3)::BIGINT
                ELSE number END AS k
            FROM range({{first}}, {{end}}) AS numbers (number)
        ))"""
    record = (
        """'{"event_uuid": "' || event_uuid || '", "event_name": "' || event_name || '"'"""
        """ || ', "created_at": ' || created_at::DECIMAL(18, 6)"""
        """ || ', "user_id": ' || user_id || ', "country": "' || country || '", "amount": ' || amount || '}'"""
    )
    columns = """event_uuid, event_name, created_at::DOUBLE AS created_at,
        replace(make_timestamp(created_at::BIGINT * 1000000)::VARCHAR, ' ', 'T') || 'Z' AS created_datetime,
        split_part(event_name, ':', 1) AS event_type, split_part(event_name, ':', 2) AS event_subtype,
        split_part(event_name, ':', -1) AS event_action, arrived_at, shard_id, sequence_number,
        user_id, country, amount"""
    with duckdb.connect(config={"memory_limit": "2GiB", "temp_directory": str(folder / "spill")}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        for batch in range(BATCHES):
            first, end = batch * events // BATCHES, (batch + 1) * events // BATCHES
            connection.execute(f"CREATE OR REPLACE TEMP TABLE batch AS {events_query.format(first=first, end=end)}")
            for shard in range(SHARDS):
                mine = f"FROM batch WHERE k % {SHARDS} = {shard}"
                connection.execute(f"COPY (SELECT {columns} {mine}) TO '{folder}/raw/{shard}-{batch:02d}.parquet'")
                if envelopes:
                    connection.execute(
                        f"COPY (SELECT shard_id, sequence_number, arrived_at, {record} AS record {mine})"
                        f" TO '{folder}/envelopes/{shard}-{batch:02d}.parquet' (COMPRESSION lz4)"
                    )


def files_of(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / kind).glob("*.parquet"))


def listed(files: list[Path]) -> str:
    return "[" + ", ".join(f"'{file}'" for file in files) + "]"


# Transform


def transform_sluice(folder: Path, out: Path) -> None:
    import duckdb  # noqa: F401

    from sluice.pipelines.events.transform import transform_batch

    with Stopwatch() as watch:
        watch.rows = transform_batch(files_of(folder, "envelopes"), KNOWN_COLUMNS, out, memory_limit_mb=1024).rows_out


def transform_baseline(folder: Path, out: Path) -> None:
    import duckdb

    with Stopwatch() as watch, duckdb.connect(config={"memory_limit": "1GiB"}) as connection:
        query = (
            f"SELECT shard_id, sequence_number, arrived_at, unnest(json_transform(record, '{json.dumps(STRUCTURE)}'))"
            f" FROM read_parquet({listed(files_of(folder, 'envelopes'))})"
        )
        watch.rows = copied(connection.execute(f"COPY ({query}) TO '{out}/all.parquet'").fetchone())


def transform_loop(folder: Path, out: Path) -> None:
    import uuid
    from datetime import UTC, datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    with Stopwatch() as watch:
        for file in files_of(folder, "envelopes"):
            hours: dict[str, list[dict[str, Any]]] = {}
            for row in pq.read_table(file).to_pylist():
                event = json.loads(row.pop("record"))
                if not isinstance(event["event_name"], str) or not START - 1e9 < event["created_at"] < START + 1e9:
                    raise ValueError(event)
                tokens = event["event_name"].split(":")
                moment = datetime.fromtimestamp(int(event["created_at"]), UTC)
                event |= row
                event["event_uuid"] = str(uuid.UUID(event["event_uuid"]))
                event["created_datetime"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
                event["event_type"] = tokens[0]
                event["event_subtype"] = tokens[1] if len(tokens) > 2 else ""
                event["event_action"] = tokens[-1] if len(tokens) > 1 else ""
                hours.setdefault(moment.strftime("%Y-%m-%dT%H"), []).append(event)
            for hour, events in hours.items():
                pq.write_table(pa.Table.from_pylist(events), out / f"{hour}-{file.name}")
                watch.rows += len(events)


def transform_pandas(folder: Path, out: Path) -> None:
    import pandas as pd

    with Stopwatch() as watch:
        for file in files_of(folder, "envelopes"):
            envelopes = pd.read_parquet(file)
            events = pd.DataFrame.from_records([json.loads(record) for record in envelopes.pop("record")])
            frame = pd.concat([events, envelopes], axis=1)
            frame["event_uuid"] = frame["event_uuid"].str.lower()
            canonical = frame["event_uuid"].str.fullmatch(
                r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
            )
            frame = frame[canonical & frame["created_at"].between(START - 1e9, START + 1e9)]
            moment = pd.to_datetime(frame["created_at"] // 1, unit="s")
            frame["created_datetime"] = moment.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
            tokens: Any = frame["event_name"].str.split(":")
            frame["event_type"] = tokens.str[0]
            frame["event_subtype"] = tokens.str[1].where(tokens.str.len() > 2, "")
            frame["event_action"] = tokens.str[-1].where(tokens.str.len() > 1, "")
            for hour, events in frame.groupby(moment.dt.floor("h")):
                events.to_parquet(out / f"{hour:%Y-%m-%dT%H}-{file.name}", index=False)
                watch.rows += len(events)


# Dedup


def dedup_sluice(folder: Path, out: Path, memory_limit_mb: int = 1024) -> None:
    import duckdb  # noqa: F401

    from sluice.pipelines.events.dedup import dedup_hour

    with Stopwatch() as watch:
        watch.rows = dedup_hour(files_of(folder, "raw"), [], out, memory_limit_mb=memory_limit_mb).rows_out


def dedup_sluice_small_memory(folder: Path, out: Path) -> None:
    dedup_sluice(folder, out, memory_limit_mb=768)


def dedup_baseline(folder: Path, out: Path) -> None:
    import duckdb

    with (
        Stopwatch() as watch,
        duckdb.connect(config={"memory_limit": "1GiB", "temp_directory": str(out / "spill")}) as connection,
    ):
        watch.rows = copied(
            connection.execute(
                f"COPY (FROM read_parquet({listed(files_of(folder, 'raw'))})) TO '{out}/all.parquet'"
            ).fetchone()
        )


def dedup_pandas(folder: Path, out: Path) -> None:
    import pandas as pd

    with Stopwatch() as watch:
        frame = pd.concat([pd.read_parquet(file) for file in files_of(folder, "raw")], ignore_index=True)
        frame["order"] = frame["sequence_number"].str.zfill(64)
        frame = (
            frame.sort_values(["created_at", "arrived_at", "order"]).drop_duplicates("event_uuid").drop(columns="order")
        )
        frame.to_parquet(out / "all.parquet", index=False)
        watch.rows = len(frame)


def dedup_polars(folder: Path, out: Path) -> None:
    import polars as pl

    with Stopwatch() as watch:
        frame = (
            pl.scan_parquet(folder / "raw" / "*.parquet")
            .sort("created_at", "arrived_at", pl.col("sequence_number").str.zfill(64))
            .unique("event_uuid", keep="first", maintain_order=False)
            .collect()
        )
        frame.write_parquet(out / "all.parquet")
        watch.rows = len(frame)


def dedup_spark(folder: Path, out: Path) -> None:
    from sluice.engines.spark import local_spark
    from sluice.pipelines.events.spark_job import write_dedup

    with local_spark("bench", out / "spill", 4096) as spark:
        spark.range(1).count()  # the JVM is up and its first query compiled
        with Stopwatch() as watch:
            raw = [file.as_uri() for file in files_of(folder, "raw")]
            watch.rows = write_dedup(spark, raw, [], (out / "parts").as_uri(), 128 * 1024 * 1024).rows_out


def copied(answer: Any) -> int:
    return int(answer[0])


def main(function: str, folder: str) -> None:
    """Run one contestant."""
    work: Callable[[Path, Path], None] = globals()[function]
    with TemporaryDirectory(dir=folder) as out:
        work(Path(folder), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
