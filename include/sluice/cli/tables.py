"""`sluice tables`: show the published tables, read them as of a time, and roll back to a snapshot."""

from __future__ import annotations

from dataclasses import asdict, astuple
from datetime import UTC, datetime
from typing import Any

import click

from sluice.aws.tables import maintenance, reading
from sluice.aws.tables.definitions import Snapshot
from sluice.core.commands import AwsGroup
from sluice.core.console import Column, print_json_lines, print_table, time_text

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")


class _AsOf(click.ParamType[Any]):
    """The id of a snapshot, or a time in ISO 8601; without a zone it is UTC."""

    name = "time or snapshot"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The id, or the time."""
        text = str(value)
        # `20240407` is a day; the id of a snapshot has up to 19 digits.
        if text.isdecimal() and len(text) > 8:
            return int(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither a snapshot nor a time: write it like 2024-04-07T17:00", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@click.group(cls=AwsGroup)
def tables() -> None:
    """Show the tables that the pipelines publish, and read them as of a time."""


@tables.command("list")
@AS_JSON
def list_tables(as_json: bool) -> None:
    """Every table with its rows, files and newest snapshot."""
    found = [reading.describe(name) for name in reading.names()]
    if as_json:
        print_json_lines(
            {
                "table": each.name,
                "description": each.description,
                "rows": each.rows,
                "files": each.files,
                "size_bytes": each.size_bytes,
                "snapshots": each.snapshots,
                "published_at": each.snapshot and each.snapshot.committed_at,
            }
            for each in found
        )
        return
    columns = (
        Column("table", "time"),
        Column("rows", "number"),
        Column("files", "number"),
        Column("snapshots", "number"),
        Column("published (UTC)", "time"),
    )
    print_table(
        columns,
        [(each.name, f"{each.rows:,}", f"{each.files:,}", each.snapshots, _committed(each.snapshot)) for each in found],
    )


def _committed(snapshot: Snapshot | None) -> str | None:
    return time_text(snapshot.committed_at, "seconds") if snapshot else None


@tables.command()
@click.argument("table")
@AS_JSON
def describe(table: str, as_json: bool) -> None:
    """Columns, partitions and size of TABLE."""
    found = reading.describe(table)
    if as_json:
        fields = ("column", "type", "description")
        print_json_lines(dict(zip(fields, each, strict=True)) for each in found.columns)
        return
    newest = f"snapshot {found.snapshot.snapshot_id}" if found.snapshot else "nothing is published yet"
    click.echo(f"{table}: {found.description}")
    click.echo(found.location)
    click.echo(f"partitioned by {', '.join(found.partitioning)}")
    click.echo(f"{found.rows:,} rows, {found.files:,} files, {found.size_bytes:,} bytes; {newest}")
    print_table((Column("column", "time"), Column("type", "time"), Column("description")), found.columns)


@tables.command()
@click.argument("table")
@click.option("--where", default="", help="Condition on the rows, such as \"event_type = 'account'\".")
@click.option("--partition", default="", help="Rows of one partition, such as 2024-04-07T17 (UTC) or 2024-04.")
@click.option("--columns", default="*", help="Names of columns, comma separated; all if not given.")
@click.option("--as-of", type=_AsOf(), help="A time (UTC) or a snapshot; the newest snapshot if not given.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=0), help="Rows to print.")
@AS_JSON
def read(table: str, where: str, partition: str, columns: str, as_of: Any, limit: int, as_json: bool) -> None:
    """Print rows of TABLE, as a query engine reads them."""
    if partition:
        in_partition = reading.partition_filter(table, partition)
        where = f"({where}) and {in_partition}" if where else in_partition
    names = tuple(name.strip() for name in columns.split(","))
    found = reading.read(table, where=where, columns=names, as_of=as_of, limit=limit)
    rows = found.to_pylist()
    if as_json:
        print_json_lines(rows)
        return
    headings = [Column(each.name, "text" if "string" in str(each.type) else "time") for each in found.schema]
    print_table(headings, [list(row.values()) for row in rows])
    click.echo(f"{len(rows)} rows shown")


@tables.command()
@click.argument("table")
@AS_JSON
def history(table: str, as_json: bool) -> None:
    """Snapshots of TABLE that can be read, the newest first: when, by which run, rows added and deleted."""
    found = reading.history(table)
    if as_json:
        print_json_lines(
            {
                "snapshot": each.snapshot_id,
                "committed_at": each.committed_at,
                "is_current": each.is_current,
                "operation": each.operation,
                "summary": each.summary,
            }
            for each in found
        )
        return
    columns = (
        Column("snapshot", "time"),
        Column("committed (UTC)", "time"),
        Column("added", "number"),
        Column("deleted", "number"),
        Column("run"),
    )
    print_table(columns, [_history_row(each) for each in found])
    click.echo("* marks the current snapshot")


def _history_row(each: Snapshot) -> tuple[object, ...]:
    added, deleted = (f"{int(each.summary.get(f'{what}-records', 0)):,}" for what in ("added", "deleted"))
    mark = "*" if each.is_current else " "
    return f"{each.snapshot_id}{mark}", _committed(each), added, deleted, each.summary.get("sluice.run")


@tables.command()
@click.argument("names", metavar="[TABLE]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only count what would be done.")
@AS_JSON
def maintain(names: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Merge small files, expire snapshots and delete files that no snapshot names, of all tables or of each TABLE.

    The Dag platform_maintain, or Glue (SLUICE_TABLE_MAINTENANCE=glue), does this every day.
    """
    now = datetime.now(UTC)
    run = f"shell__{now:%Y-%m-%dT%H-%M-%S}"
    done = [maintenance.maintain(name, run, now, dry_run=dry_run) for name in names or reading.names()]
    if as_json:
        print_json_lines(asdict(each) for each in done)
        return
    columns = (
        Column("table", "time"),
        Column("merged files", "number"),
        Column("expired snapshots", "number"),
        Column("deleted files", "number"),
        Column("bytes", "number"),
    )
    print_table(
        columns, [tuple(each if isinstance(each, str) else f"{each:,}" for each in astuple(one)) for one in done]
    )
    if dry_run:
        click.echo("Nothing was changed (--dry-run).")


@tables.command()
@click.argument("table")
@click.argument("snapshot", type=int)
@click.confirmation_option(prompt="Readers will see that snapshot instead of the current one. Continue?")
def rollback(table: str, snapshot: int) -> None:
    """Let readers of TABLE see an earlier SNAPSHOT again; `sluice tables history TABLE` lists them."""
    reading.roll_back(table, snapshot)
    click.echo(f"{table}: readers see snapshot {snapshot}")
