"""Reads and writes of the pipeline, one service a function: S3 (raw, staging), Iceberg (history), DynamoDB
(aggregates)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluice.aws import dynamodb, s3
from sluice.aws.tables import commits, row_commits
from sluice.aws.tables.definitions import Column, TableDefinition
from sluice.core.run import epoch_microseconds
from sluice.pipelines.dockerhub import PIPELINE
from sluice.pipelines.dockerhub.records import RAW_PREFIX, Stats
from sluice.pipelines.dockerhub.transform import (
    MARKER_SK,
    MONTHS_SK,
    TTL_SECONDS,
    RawObject,
    partition_key,
    timestamp_sort_key,
)

HISTORY = TableDefinition(
    f"{PIPELINE}_history",
    "Popularity of one repository at one pull",
    (
        Column("observed_at", "timestamptz", "time of the pull (UTC)"),
        Column("namespace", "string", "of the repository"),
        Column("name", "string", "of the repository"),
        Column("star_count", "long", "stars"),
        Column("pull_count", "long", "pulls since the repository exists"),
        Column("last_updated", "timestamptz", "when an image was last pushed (UTC)"),
    ),
    partition_column="observed_at",
    partition_by="month",
)


def list_month(bucket: str, year: int, month: int) -> Iterator[str]:
    """Raw keys of every repository whose partition is that month."""
    for namespace in s3.list_folders(bucket, RAW_PREFIX):
        for name in s3.list_folders(bucket, namespace):
            yield from s3.list_keys(bucket, f"{name}year={year:04d}/month={month:02d}/")


def append_history(run: str, observed_at: datetime, stats: Sequence[Stats]) -> commits.Commit:
    """Append the rows of one pull to the history, except existing ones.

    Raises:
        TableMissing: nothing is deployed.
        TableBusy: see `sluice.aws.tables.commits`.
    """
    import pyarrow as pa

    schema = pa.schema(
        [
            ("observed_at", pa.timestamp("us", tz="UTC")),
            ("namespace", pa.string()),
            ("name", pa.string()),
            ("star_count", pa.int64()),
            ("pull_count", pa.int64()),
            ("last_updated", pa.timestamp("us", tz="UTC")),
        ]
    )
    values = [(observed_at, s.namespace, s.name, s.star_count, s.pull_count, s.last_updated_at) for s in stats]
    rows = pa.table(dict(zip(schema.names, zip(*values, strict=True), strict=True)), schema=schema)
    key = ("observed_at", "namespace", "name")
    return row_commits.append(
        HISTORY.name,
        rows,
        where=f"observed_at = '{observed_at.isoformat()}'",
        columns=key,
        is_new=row_commits.without_keys(rows, key),
        summary={"dag": "dockerhub_pull", "run": run, "rows": rows.num_rows},
    )


@dataclass(frozen=True)
class MonthlyState:
    """The winning object of each month of one repository.

    Attributes:
        revision: grows by one with each change; a copy of the months never replaces one of a greater revision.
        months: `YYYY-MM` -> `source_version`, `star_count`, `pull_count`.
    """

    revision: int
    months: dict[str, dict[str, Any]]

    def aggregated_metrics(self) -> dict[str, Any]:
        """`aggregated_metrics_by_year_month` (docs/pipelines.md, dockerhub)."""
        return {
            month: [{name: entry[name] for name in ("star_count", "pull_count")}]
            for month, entry in sorted(self.months.items())
        }


def _monthly_state(item: dict[str, Any]) -> MonthlyState:
    months = {name: value for name, value in item.items() if name not in ("PK", "SK", "revision")}
    return MonthlyState(item["revision"], months)


def record_month(table: str, winner: RawObject, replacing: str | None = None) -> MonthlyState:
    """Set the winning object of a month unless a greater one is set; one conditional write (compare-and-set).

    Args:
        table: the DynamoDB table.
        winner: the object.
        replacing: `source_version` of a greater object that was deleted, which this one replaces.

    Returns:
        The state of the repository afterwards, also if another writer has set the month.
    """
    entry = _month_entry(winner)
    values = {":entry": entry, ":version": replacing or winner.source_version, ":one": 1}
    condition = "#month.source_version = :version"
    if replacing is None:
        # Times of S3 are whole seconds: of two contents of one second, the one read last wins.
        condition = (
            "attribute_not_exists(#month) OR #month.source_version < :version OR (#month.source_version = :version"
            " AND (#month.star_count <> :stars OR #month.pull_count <> :pulls))"
        )
        values |= {":stars": entry["star_count"], ":pulls": entry["pull_count"]}
    key = _item_key(partition_key(winner.stats), MONTHS_SK)
    update = "SET #month = :entry ADD revision :one"
    names = {"#month": winner.year_month}
    decides = dynamodb.Update(table, key, update, condition=condition, values=values, names=names)
    return _monthly_state(dynamodb.write(decides).item)


def _month_entry(winner: RawObject) -> dict[str, Any]:
    return {
        "source_version": winner.source_version,
        "star_count": winner.stats.star_count,
        "pull_count": winner.stats.pull_count,
    }


def write_push(table: str, winner: RawObject, now: datetime, replacing: str | None = None) -> str | None:
    """Write the counts of one push, unless an object of a greater name wrote them.

    Args:
        table: the DynamoDB table.
        winner: the object.
        now: the time of writing, from which TTL counts.
        replacing: `source_version` of a greater object that was deleted, which this one replaces.

    Returns:
        `source_version` of the greater object whose counts the item keeps, or None.
    """
    left = _update_unless_newer(
        table,
        _item_key(partition_key(winner.stats), timestamp_sort_key(winner.stats)),
        update="SET star_count = :stars, pull_count = :pulls, last_updated = :updated,"
        " source_version = :version, #ttl = :ttl",
        condition="source_version = :replacing"
        if replacing
        else "attribute_not_exists(source_version) OR source_version <= :version",
        names={"#ttl": "TTL"},
        values={
            ":stars": winner.stats.star_count,
            ":pulls": winner.stats.pull_count,
            ":updated": winner.stats.last_updated,
            ":version": winner.source_version,
            ":ttl": _expiry(now),
        }
        | ({":replacing": replacing} if replacing else {}),
    )
    return str(left["source_version"]) if left else None


def write_months(table: str, pk: str, sort_key: str, state: MonthlyState) -> None:
    """Copy the months into the item of a push that exists, unless it has a greater revision."""
    _update_unless_newer(
        table,
        _item_key(pk, sort_key),
        update="SET aggregated_metrics_by_year_month = :months, months_revision = :revision",
        condition="attribute_exists(source_version)"
        " AND (attribute_not_exists(months_revision) OR months_revision <= :revision)",
        names={},
        values={":months": state.aggregated_metrics(), ":revision": state.revision},
    )


def move_marker(table: str, latest: RawObject, now: datetime) -> None:
    """Move the marker to a push unless it is at a later one; one conditional write."""
    _update_unless_newer(
        table,
        _item_key(partition_key(latest.stats), MARKER_SK),
        update="SET last_updated = :updated, last_updated_us = :us, #ttl = :ttl",
        condition="attribute_not_exists(last_updated_us) OR last_updated_us < :us"
        " OR (last_updated_us = :us AND last_updated <= :updated)",
        names={"#ttl": "TTL"},
        values={
            ":updated": latest.stats.last_updated,
            ":us": epoch_microseconds(latest.stats.last_updated_at),
            ":ttl": _expiry(now),
        },
    )


def _expiry(now: datetime) -> int:
    return int(now.timestamp()) + TTL_SECONDS


def _update_unless_newer(
    table: str, key: dict[str, Any], *, update: str, condition: str, names: dict[str, str], values: dict[str, Any]
) -> dict[str, Any] | None:
    """One conditional write. If the condition fails, a newer value was written already, which is not an error.

    Returns:
        The newer item; None if it was written, or if there is no item to write to.
    """
    written = dynamodb.write(dynamodb.Update(table, key, update, condition=condition, values=values, names=names))
    return None if written.is_written else written.item or None


def _item_key(pk: str, sort_key: str) -> dynamodb.Item:
    return {"PK": pk, "SK": sort_key}


def read_marker_and_months(table: str, pk: str) -> tuple[str, MonthlyState]:
    """`last_updated` of the marker and the months of one repository (consistent read); one request.

    Raises:
        LookupError: the repository has no marker or no months yet.
        ItemsRefused: DynamoDB is throttled for long.
    """
    found = dynamodb.get_items(table, [_item_key(pk, MARKER_SK), _item_key(pk, MONTHS_SK)])
    items = {item["SK"]: item for item in found}
    if len(items) != 2:
        raise LookupError(f"table {table}: {pk} lacks {MARKER_SK} or {MONTHS_SK}")
    return items[MARKER_SK]["last_updated"], _monthly_state(items[MONTHS_SK])


def read_last_pull_counts(table: str, partition_keys: Iterable[str]) -> dict[str, int]:
    """Partition key -> `pull_count` of the latest month; unknown repositories are omitted.

    Args:
        table: the DynamoDB table.
        partition_keys: distinct.

    Raises:
        ItemsRefused: DynamoDB is throttled for long.
    """
    counts: dict[str, int] = {}
    for item in dynamodb.get_items(table, [_item_key(pk, MONTHS_SK) for pk in partition_keys]):
        months = _monthly_state(item).months
        counts[item["PK"]] = months[max(months)]["pull_count"]
    return counts


def read_all_months(table: str) -> list[tuple[str, str, int, int]]:
    """`namespace/name`, `YYYY-MM`, `star_count` and `pull_count` of every month of every repository, sorted.

    Scans the whole table; for display only.
    """
    found = []
    for item in dynamodb.scan_items(table, "SK = :months", {":months": MONTHS_SK}):
        _, _, _, _, name, _, namespace = item["PK"].split("#")
        for month, entry in _monthly_state(item).months.items():
            found.append((f"{namespace}/{name}", month, entry["star_count"], entry["pull_count"]))
    return sorted(found)
