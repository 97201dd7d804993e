"""The rules of `events` on Spark 3.5, from the same SQL files: the way out where an hour outgrows a worker.

`main` is the script of the Glue job; `dedup_hour` runs a local PySpark and has a sibling in `dedup`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sluice.engine import local_spark, read_queries, to_spark
from sluice.events import dedup
from sluice.events.dedup import DedupResult
from sluice.events.records import FurtherColumn, Reason, check_known_columns, plan_columns
from sluice.events.transform import SAMPLE_ROWS, fields_by_rank, transform_queries
from sluice.spark_json import JsonNumber, field_count, is_json, json_fields, json_kind, json_struct

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RESULT_FOLDER = "_result"
"""Below the output of the Glue job: one line of JSON with the counts of `DedupResult`."""


class DedupCounts(NamedTuple):
    """Counts of `DedupResult`."""

    rows_in: int
    rows_out: int
    duplicates_in_hour: int
    duplicates_of_previous: int


def transform_frame(
    spark: SparkSession, envelopes: DataFrame, known_columns: Mapping[str, str]
) -> tuple[DataFrame, DataFrame, list[FurtherColumn]]:
    """The good rows of `transform.sql`, the rejected ones, and the further columns.

    Args:
        spark: session in UTC.
        envelopes: `ENVELOPE_COLUMNS`.
        known_columns: columns of the raw table, name -> type in DuckDB.

    Returns:
        Rows of the raw table with `__hour` (its start in epoch seconds); `shard_id`, `sequence_number`, `reason` and
        `record` of what was rejected; the further columns of the first.

    Raises:
        ValueError: a known column has a type that no further field can have.
    """
    known = check_known_columns(known_columns)
    seen: set[tuple[str, str]] = set()
    columns = plan_columns(known, seen)
    for relation in (envelopes.limit(SAMPLE_ROWS), envelopes):
        relation.createOrReplaceTempView("envelopes")
        while True:
            for name, (function, kind) in json_functions(columns).items():
                spark.udf.register(name, function, kind)
            queries = {name: to_spark(query) for name, query in transform_queries(columns).items()}
            judged = spark.sql(queries["judged"])
            unplanned = judged.where(f"__reason IN ('{Reason.BAD_FIELD}', '{Reason.INCOMPATIBLE_TYPE}')").select(
                "__record"
            )
            seen.update(unplanned.rdd.flatMap(lambda row: _field_kinds(row[0])).distinct().collect())
            replanned = plan_columns(known, seen)
            if replanned == columns:
                break
            columns = replanned
    judged.createOrReplaceTempView("judged")
    for name in ("names", "seconds"):
        spark.sql(queries[name]).createOrReplaceTempView(name)
    rejected = judged.where("__reason IS NOT NULL").selectExpr(
        "shard_id", "sequence_number", "__reason AS reason", "__record AS record"
    )
    return spark.sql(queries["transformed"]), rejected, columns


def dedup_frames(
    spark: SparkSession, raw_files: Sequence[str], previous_files: Sequence[str]
) -> tuple[DataFrame, DataFrame]:
    """The rows of an hour that are kept, and those dropped (`__row_id`, `cause`), as in `dedup.sql`.

    Args:
        spark: session in UTC.
        raw_files: addresses of the hour's parquet files; at least one.
        previous_files: addresses of the raw files of the hours before.
    """
    from pyspark.sql import functions as f

    queries = read_queries(dedup.SQL)
    raw = spark.read.option("mergeSchema", "true").parquet(*raw_files)
    raw = raw.select("*", f.struct("_metadata.file_path", "_metadata.row_index").alias("__row_id"))
    raw.createOrReplaceTempView("raw")
    previous = (
        spark.read.parquet(*previous_files).select("event_uuid")
        if previous_files
        else raw.select("event_uuid").limit(0)
    )
    previous.createOrReplaceTempView("previous")
    dropped = spark.sql(to_spark(queries["dropped"])).cache()
    dropped.createOrReplaceTempView("dropped")
    return spark.sql(to_spark(queries["kept"])).drop("__row_id"), dropped


def write_dedup(
    spark: SparkSession, raw_files: Sequence[str], previous_files: Sequence[str], out: str, target_file_bytes: int
) -> DedupCounts:
    """Write the kept rows of an hour as parquet below `out`, replacing what is there; arguments of `dedup_frames`."""
    kept, dropped = dedup_frames(spark, raw_files, previous_files)
    causes = {row["cause"]: row["count"] for row in dropped.groupBy("cause").count().collect()}
    sizes = spark.read.format("binaryFile").load(list(raw_files)).selectExpr("sum(length) AS bytes").first()
    file_count = max(1, math.ceil((sizes["bytes"] if sizes else 0) / target_file_bytes))
    kept.coalesce(file_count).write.mode("overwrite").parquet(out)
    rows_in = spark.read.parquet(*raw_files).count()
    dropped.unpersist()
    return DedupCounts(rows_in, rows_in - sum(causes.values()), causes.get("hour", 0), causes.get("previous", 0))


def dedup_hour(
    raw_files: Sequence[Path],
    previous_files: Sequence[Path],
    out_dir: Path,
    *,
    target_file_bytes: int = 128 * 1024 * 1024,
    memory_limit_mb: int = 2048,
) -> DedupResult:
    """As `dedup.dedup_hour`, by a local PySpark; the order of rows may be another.

    Raises:
        EngineError: PySpark or Java is missing.
    """
    if not raw_files:
        return DedupResult([], 0, 0, 0, 0)
    out_dir.mkdir(parents=True, exist_ok=True)
    with local_spark("events dedup", out_dir / "spill", memory_limit_mb) as spark:
        raw, previous = ([path.absolute().as_uri() for path in files] for files in (raw_files, previous_files))
        counts = write_dedup(spark, raw, previous, (out_dir / "parts").absolute().as_uri(), target_file_bytes)
    files = sorted((out_dir / "parts").glob("part-*.parquet")) if counts.rows_out else []
    return DedupResult(files, *counts)


def main(argv: Sequence[str] | None = None) -> None:
    """The Glue job: dedup the hour that a manifest describes.

    Args:
        argv: `--manifest <address>` of a JSON object with `raw` and `previous` (lists of addresses), `out` (a folder)
            and `target_file_bytes`; other arguments, as Glue adds them, are passed over. None: the command line.
    """
    from pyspark.sql import SparkSession

    parser = argparse.ArgumentParser(description="Dedup of one hour of events")
    parser.add_argument("--manifest", required=True)
    arguments, _ = parser.parse_known_args(argv)
    spark = (
        SparkSession.builder.appName("events dedup")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .getOrCreate()
    )
    manifest = json.loads("\n".join(spark.sparkContext.textFile(arguments.manifest).collect()))
    out = manifest["out"].rstrip("/")
    counts = write_dedup(spark, manifest["raw"], manifest["previous"], out, manifest["target_file_bytes"])
    spark.sparkContext.parallelize([json.dumps(counts._asdict())], 1).saveAsTextFile(f"{out}/{RESULT_FOLDER}")


def _field_kinds(record: str) -> list[tuple[str, str]]:
    """(field, kind of its value) as `plan_columns` takes them."""
    return [(name, _column_kind(value)) for name, value in json_fields(record) if value is not None]


def _column_kind(value: Any) -> str:
    match value:
        case bool():
            return "BOOLEAN"
        case JsonNumber() if re.fullmatch("-?[0-9]+", value):
            return "BIGINT" if -(2**63) <= int(value) < 2**63 else "VARCHAR"
        case JsonNumber():
            return "DOUBLE"
        case _:
            return "VARCHAR"


def json_functions(columns: Sequence[FurtherColumn]) -> dict[str, tuple[Callable[..., Any], str]]:
    """The functions that `transform.sql` reads JSON with: name -> function and its type in Spark."""
    ranks = fields_by_rank(columns)
    planned = {name for fields in ranks for name in fields}

    def has_repeated_field(record: str) -> bool:
        names = [name.lower() for name, _ in json_fields(record)]
        return len(set(names)) < len(names)

    functions: dict[str, tuple[Callable[..., Any], str]] = {
        "is_json": (is_json, "boolean"),
        "json_kind": (json_kind, "string"),
        "field_count": (field_count, "int"),
        "has_repeated_field": (has_repeated_field, "boolean"),
        "has_unplanned_field": (
            lambda record: any(name not in planned and value is not None for name, value in json_fields(record)),
            "boolean",
        ),
    }
    for rank, fields in enumerate(ranks):
        as_is = {name: kind == "VARCHAR" for name, kind in fields.items()}
        struct = "struct<" + ", ".join(f"`{name}`: string" for name in fields) + ">"
        functions[f"json_fields_{rank}"] = (partial(json_struct, fields=as_is), struct)
    return functions


if __name__ == "__main__":
    main()
