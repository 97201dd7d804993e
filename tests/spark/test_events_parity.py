"""DuckDB and Spark 3.5 give the same rows from `dedup.sql`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from events_data import (
    ARRIVED_AT,
    CREATED_AT,
    SHARD,
    envelopes,
    event,
    rows,
    transformed,
    uuid_of,
)
from sluice.pipelines.events import dedup, spark_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEW = settings(max_examples=4, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
"""Each example is a large batch, and none is made smaller: Spark takes seconds for any."""


def comparable(row: dict[str, Any]) -> str:
    """A row as text, in which NaN equals NaN and 0.0 is not -0.0."""
    return repr(sorted((name, int(value) if name == "__hour" else value) for name, value in row.items()))


raw_rows = st.lists(
    st.tuples(
        st.none() | st.integers(0, 8).map(uuid_of),
        st.none() | st.sampled_from([CREATED_AT, CREATED_AT + 1e-6, CREATED_AT + 1, math.nan]),
        st.none() | st.sampled_from([ARRIVED_AT, ARRIVED_AT + timedelta(microseconds=1)]),
        st.sampled_from([SHARD, "shardId-000000000001"]),
        st.none() | st.sampled_from(["9", "10", "11", "9" * 55, "1" + "0" * 55]),
    ),
    max_size=60,
)


def write_raw(path: Path, raw: Sequence[tuple[Any, ...]], first: int, extra: bool) -> Path:
    names = ["event_uuid", "created_at", "arrived_at", "shard_id", "sequence_number"]
    kinds = [pa.string(), pa.float64(), pa.timestamp("us", "UTC"), pa.string(), pa.string()]
    columns = {
        name: pa.array([row[number] for row in raw], kind)
        for number, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }
    times = [f"2024-04-07T17:42:{place % 60:02d}Z" for place in range(len(raw))]
    columns["created_datetime"] = pa.array(times, pa.string())
    columns["payload"] = pa.array(range(first, first + len(raw)), pa.int64())
    if extra:
        columns["extra"] = pa.array([None if place % 2 else f"é{place}" for place in range(len(raw))], pa.string())
    pq.write_table(pa.table(columns), path)
    return path


@FEW
@given(files=st.lists(raw_rows, min_size=1, max_size=5), previous=st.lists(raw_rows, max_size=2))
def test_the_dedup_gives_the_same_rows(
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[tuple[Any, ...]]],
    previous: list[list[tuple[Any, ...]]],
) -> None:
    folder = tmp_path_factory.mktemp("dedup")
    raw = [
        write_raw(folder / f"raw{number}.parquet", file, 1000 * number, extra=number > 0)
        for number, file in enumerate(files)
    ]
    before = [
        write_raw(folder / f"previous{number}.parquet", file, 0, extra=False) for number, file in enumerate(previous)
    ]
    result = dedup.dedup_hour(raw, before, folder / "duckdb", memory_limit_mb=256)
    counts = spark_job.write_dedup(
        spark, [path.as_uri() for path in raw], [path.as_uri() for path in before], str(folder / "spark"), 2**27
    )
    by_spark = [row for path in (folder / "spark").glob("*.parquet") for row in rows([path])]
    assert sorted(map(comparable, by_spark)) == sorted(map(comparable, rows(result.files)))
    assert counts == (result.rows_in, result.rows_out, result.duplicates_in_hour, result.duplicates_of_previous)


def test_the_job_reads_a_manifest_and_writes_its_counts(spark: SparkSession, tmp_path: Path) -> None:
    raw = transformed(tmp_path / "raw", envelopes([event(1), event(1), event(2), event(3)])).files
    before = transformed(tmp_path / "before", envelopes([event(3)])).files
    manifest = {
        "raw": [file.path.as_uri() for file in raw],
        "previous": [file.path.as_uri() for file in before],
        "out": (tmp_path / "out").as_uri(),
        "target_file_bytes": 1,
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    spark_job.main(["--manifest", (tmp_path / "manifest.json").as_uri(), "--JOB_NAME", "dedup"])
    (counts,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / spark_job.RESULT_FOLDER).glob("part-*")]
    assert counts == {"rows_in": 4, "rows_out": 2, "duplicates_in_hour": 1, "duplicates_of_previous": 1}
    assert sorted(row["event_uuid"] for path in (tmp_path / "out").glob("*.parquet") for row in rows([path])) == [
        uuid_of(1),
        uuid_of(2),
    ]


def test_the_local_engine_takes_the_place_of_duckdb(spark: SparkSession, tmp_path: Path) -> None:
    raw = [file.path for file in transformed(tmp_path / "raw", envelopes([event(1), event(1), event(2)])).files]
    by_duckdb = dedup.dedup_hour(raw, [], tmp_path / "duckdb", memory_limit_mb=256)
    by_spark = spark_job.dedup_hour(raw, [], tmp_path / "spark", memory_limit_mb=1024)
    assert sorted(map(comparable, rows(by_spark.files))) == sorted(map(comparable, rows(by_duckdb.files)))
    assert str(pq.ParquetFile(by_spark.files[0]).schema_arrow.field("arrived_at").type) == "timestamp[us, tz=UTC]"
    assert by_spark.files != by_duckdb.files
    assert (by_spark.rows_in, by_spark.rows_out) == (3, 2)
