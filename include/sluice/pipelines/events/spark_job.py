"""Deduplication of `events` on Spark 3.5, from the same SQL file, for an hour too large for a worker.

`main` is the script of the Glue job; `dedup_hour` runs a local PySpark, with the interface of `dedup`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sluice.engines.queries import read_queries
from sluice.engines.spark import local_spark, to_spark
from sluice.pipelines.events import dedup
from sluice.pipelines.events.dedup import DedupResult

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
    kept = spark.sql(to_spark(queries["kept"])).drop("__row_id")
    # It is text in ISO 8601 in raw files.
    return kept.withColumn("created_datetime", f.col("created_datetime").cast("timestamp")), dropped


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
    """As `dedup.dedup_hour`, with a local PySpark; the order of rows may differ.

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
    """The Glue job: deduplicate the hour of a manifest.

    Args:
        argv: `--manifest <address>` of a JSON object with `raw` and `previous` (lists of addresses), `out` (a folder)
            and `target_file_bytes`; other arguments, added by Glue, are ignored. None: the command line.
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


if __name__ == "__main__":
    main()
