"""Queries in DuckDB's dialect, in `.sql` files: each is headed by a line `-- name: <name>`."""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable
from pathlib import Path

_NAME_LINE = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


def read_queries(path: Traversable) -> dict[str, str]:
    """Name -> query of one `.sql` file, which may be in a zip, as in a Glue job.

    Raises:
        ValueError: the file names no query, or one twice.
    """
    _, *parts = _NAME_LINE.split(path.read_text(encoding="utf-8"))
    names, queries = parts[::2], parts[1::2]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{path.name}: head each query with a line `-- name: <name>`, each name once; found {names}")
    return {name: query.strip().removesuffix(";") for name, query in zip(names, queries, strict=True)}


def fill(query: str, **fragments: str) -> str:
    """A query with each comment `/* <name> */` replaced by its fragment; without fragments it is complete SQL.

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
