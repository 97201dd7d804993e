"""DuckDB, which runs the queries of every heavy step in the worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.errors import TerminalError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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


class MemoryLimitReached(TerminalError):
    """A query of DuckDB exceeded the memory limit, although it spills to disk."""


@contextmanager
def duckdb_connection(
    memory_limit_mb: int, spill_dir: Path, threads: int | None = None
) -> Iterator[DuckDBPyConnection]:
    """An in-memory DuckDB in UTC that spills to disk.

    Args:
        memory_limit_mb: memory before it spills, MiB; the process needs about a third more.
        spill_dir: folder for spilled data; removed at the end.
        threads: worker threads; None for one per core.

    Raises:
        MemoryLimitReached: a query exceeds the limit, although it spills: sorting large rows needs memory.
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
            " lower the limits of a run"
        ) from error
    finally:
        connection.close()
        shutil.rmtree(spill_dir, ignore_errors=True)


def create_is_json(connection: DuckDBPyConnection) -> None:
    """Create the macro `is_json(text)`: whether a text is JSON as RFC 8259 defines it; false for null.

    A lone surrogate (`"\\ud800"`), which has no UTF-8 encoding, is not JSON.
    """
    connection.execute(_IS_JSON)
