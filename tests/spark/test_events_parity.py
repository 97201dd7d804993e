"""DuckDB and Spark 3.5 give the same rows from the SQL of `events`."""

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
from tests.unit.events.events_data import (
    ARRIVED_AT,
    CREATED_AT,
    SHARD,
    envelopes,
    event,
    rejections,
    rows,
    transformed,
    uuid_of,
)

from sluice.events import dedup, spark_job
from sluice.events.records import Envelope

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEW = settings(max_examples=4, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
"""Each example is a large batch, and none is made smaller: Spark takes seconds for any."""


def comparable(row: dict[str, Any]) -> str:
    """A row as text, in which NaN equals NaN and 0.0 is not -0.0."""
    return repr(sorted((name, int(value) if name == "__hour" else value) for name, value in row.items()))


def assert_same_transform(spark: SparkSession, folder: Path, batch: Sequence[Envelope], known: dict[str, str]) -> None:
    result = transformed(folder, batch, known)
    frame, rejected, columns = spark_job.transform_frame(
        spark, spark.read.parquet(str(folder / "envelopes.parquet")), known
    )
    frame.write.parquet(str(folder / "good"))
    rejected.write.parquet(str(folder / "rejected"))
    assert {column.name: column.type for column in columns} == result.columns
    good = [{**row, "__hour": file.hour.timestamp()} for file in result.files for row in rows([file.path])]
    assert sorted(map(comparable, rows((folder / "good").glob("*.parquet")))) == sorted(map(comparable, good))
    assert sorted(map(comparable, rows((folder / "rejected").glob("*.parquet")))) == sorted(
        map(comparable, rejections(result))
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
uuids = st.integers(0, 50).map(uuid_of)
fields = st.fixed_dictionaries(
    {
        "event_uuid": uuids
        | uuids.map(str.upper)
        | uuids.map(lambda text: "{" + text + "}")
        | st.text(max_size=40)
        | json_values,
        "event_name": st.from_regex(r"[a-zé:]{0,10}", fullmatch=True)
        | st.text(st.characters(codec="utf-8"), max_size=8)
        | json_values,
        "created_at": st.floats(CREATED_AT - 1e5, CREATED_AT + 1e5) | st.integers(1712000000, 1712600000) | json_values,
    },
    optional={
        "userId": json_values,
        "userid": st.integers(),
        "amount": st.floats(allow_nan=False) | st.integers(-5, 5) | json_values,
        "count": st.integers(-(2**64), 2**64) | st.sampled_from([5.0, 1.5, "5", None]),
        "flag": st.booleans() | st.sampled_from([0, "true", None]),
        "note": st.text(st.characters(codec="utf-8")) | json_values,
        "hour": st.integers(),
        "a b": st.none() | st.integers(),
    },
)
damages = st.sampled_from(
    [
        str,
        lambda _: "",
        lambda text: text[:-3],
        lambda text: f" {text}\n",
        lambda text: text + "x",
        lambda text: f"[{text}]",
        lambda text: text.replace('"', "'"),
        lambda text: text.replace("}", ",}"),
        lambda text: text.replace("{", '{"userId": 1, '),
        lambda text: text.replace("{", '{"event_name": "twice", '),
        lambda text: text.replace(": 1", ": 01"),
        lambda text: json.dumps(text),
        lambda text: text.encode().decode("latin-1"),
        lambda text: '"\\ud800"' + text,
        lambda _: "\t\n ",
    ]
)
usual = st.tuples(
    st.fixed_dictionaries(
        {
            "event_uuid": uuids,
            "event_name": st.just("account:created"),
            "created_at": st.floats(CREATED_AT - 1e4, CREATED_AT),
        },
        optional={"amount": st.floats()},
    ),
    st.just(str),
)
records = (usual | st.tuples(fields, damages)).map(lambda pair: pair[1](json.dumps(pair[0], ensure_ascii=False)))


@FEW
@given(
    batch=st.lists(records, min_size=100, max_size=200),
    known=st.sampled_from([{}, {"amount": "DOUBLE", "count": "BIGINT", "flag": "BOOLEAN", "userid": "VARCHAR"}]),
)
def test_the_transform_gives_the_same_rows(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, batch: list[str], known: dict[str, str]
) -> None:
    assert_same_transform(spark, tmp_path_factory.mktemp("transform"), envelopes(batch), known)


def test_the_edges_of_the_transform_give_the_same_rows(spark: SparkSession, tmp_path: Path) -> None:
    numbers = [
        "-0",
        "-0.0",
        "1E5",
        "1e-7",
        "1e20",
        "1e21",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "5e-324",
        "18446744073709551616",
        "123456789012345678901234567890.5",
    ]
    strings = [
        '"\\u001f\\/\\u00e9\\ud83d\\ude00\\u2028\\u007f\\b\\f\\n\\r\\t"',
        '"\\u0000"',
        '"a\\"b,]"',
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '[1,[],{"a":1,"a":2},"\\u001f"]',
        "[1,]",
    ]
    batch = [event(number, n="@").replace('"@"', text) for number, text in enumerate(numbers)]
    batch += [event(number, s="@").replace('"@"', text) for number, text in enumerate(strings)]
    batch += [event(created_at="@").replace('"@"', text) for text in numbers]
    batch += [event(event_name="@").replace('"@"', text) for text in strings + numbers]
    batch += [
        event(number, created_at=CREATED_AT + step)
        for number, step in enumerate((-765565775, 86400 + 0.8, 86400 + 0.4))
    ]
    batch += [
        "null",
        "5",
        '"x"',
        "[]",
        "{}",
        "",
        "{",
        "\ufeff{}",
        "{a:1}",
        "// {}",
        '{"a":+1}',
        '{"a":.5}',
        "{}{}",
        "{,}",
        "[1,,2]",
    ]
    assert_same_transform(spark, tmp_path, envelopes(batch), {})


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
