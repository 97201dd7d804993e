"""A table of visits with a partition for each hour, as tests of tables fill and read it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from sluice.aws import s3
from sluice.aws.tables import commits, reading, row_commits
from sluice.aws.tables.definitions import Column, TableDefinition
from sluice.settings import Settings

START = datetime(2024, 4, 7, 17, tzinfo=UTC)
HOUR = timedelta(hours=1)
VISITS = TableDefinition(
    "visits",
    "A visit",
    (Column("at", "timestamptz", "when (UTC)"), Column("page", "string", "which"), Column("count", "int", "how often")),
    partition_column="at",
    partition_by="hour",
)


def where(hour: datetime) -> str:
    return f"at >= '{hour.isoformat()}' and at < '{(hour + HOUR).isoformat()}'"


def rows(hour: datetime, pages: str, count: pa.DataType | None = None, **more: pa.Array) -> pa.Table:
    """A row for each letter of `pages`."""
    at = pa.array([hour + timedelta(seconds=n) for n in range(len(pages))], pa.timestamp("us", tz="UTC"))
    columns = {"at": at, "page": pa.array(list(pages)), "count": pa.array([1] * len(pages), count or pa.int32())}
    return pa.table(columns | more)


def stage(lake: Settings, table: pa.Table) -> str:
    key = f"staging/visits/{uuid.uuid4().hex}.parquet"
    s3.write_object(lake.lake_bucket, key, row_commits.parquet_bytes(table))
    return key


def publish(
    lake: Settings, hour: datetime, pages: str, expected: list[str] | None = None, **columns: Any
) -> commits.Commit:
    staged = [stage(lake, rows(hour, pages, **columns))] if pages else []
    if expected is None:
        expected = commits.live_files(VISITS.name, where(hour))
    summary = {"run": f"run-{pages}", "rows": len(pages)}
    return commits.replace(
        VISITS.name, where(hour), staged, content=pages or "none", expected=expected, summary=summary
    )


def append(added: pa.Table, hour: datetime) -> commits.Commit:
    """Append visits of an hour, each of which is known by its time and page."""
    key = ("at", "page")
    is_new = row_commits.without_keys(added, key)
    return row_commits.append(VISITS.name, added, where=where(hour), columns=key, is_new=is_new, summary={"run": "run"})


def pages(**asked: Any) -> str:
    """The pages of all rows, in the order of the alphabet."""
    return "".join(sorted(reading.read("visits", columns=("page",), **asked)["page"].to_pylist()))


def files(lake: Settings, folder: str) -> set[str]:
    return set(s3.list_keys(lake.lake_bucket, f"curated/visits/{folder}/"))
