"""`sluice migrate`: move data that an older version published in other layouts.

Before tables were Iceberg tables, `events` had a folder for each version of an hour, the history of pulls one parquet
file a pull, and accommodations a manifest that named the candidates of each bucket. Their rows are committed to the
current tables; the files are not deleted. The state of hours moves too (`older_hours`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sluice import lake
from sluice.aws import s3
from sluice.aws.tables import commits, row_commits
from sluice.aws.threads import in_parallel
from sluice.core.commands import AwsCommand
from sluice.core.run import utc_now
from sluice.deployment.older_hours import move_older_hours
from sluice.pipelines.accommodations.catalogue import CANDIDATES
from sluice.pipelines.dockerhub.storage import HISTORY
from sluice.pipelines.events import storage as events
from sluice.pipelines.events.hours import PUBLISHED, query_state
from sluice.settings import Settings, load_settings

if TYPE_CHECKING:
    import pyarrow as pa

RUN = "migrate"


def migrate_history(settings: Settings) -> tuple[int, int]:
    """Append the rows of the history's older files, a commit a month; returns the numbers of files and of new rows."""
    import pyarrow as pa

    months: dict[str, list[str]] = {}
    for key in s3.list_keys(settings.lake_bucket, f"{HISTORY.prefix}year="):
        months.setdefault("/".join(key.removeprefix(HISTORY.prefix).split("/")[:2]), []).append(key)
    key_columns = ("observed_at", "namespace", "name")
    added = 0
    for month, keys in sorted(months.items()):
        rows = pa.concat_tables(in_parallel(lambda key: _read(settings, key), keys))
        first, last = min(rows["observed_at"].to_pylist()), max(rows["observed_at"].to_pylist())
        commit = row_commits.append(
            HISTORY.name,
            rows,
            where=f"observed_at >= '{first.isoformat()}' and observed_at <= '{last.isoformat()}'",
            columns=key_columns,
            is_new=row_commits.without_keys(rows, key_columns),
            summary={"dag": "-", "run": f"{RUN} {month}"},
        )
        added += int(commit.snapshot.summary["added-records"]) if commit.snapshot and commit.is_new else 0
    return sum(map(len, months.values())), added


def _read(settings: Settings, key: str) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(s3.read_object(settings.lake_bucket, key).body), partitioning=None)


def migrate_events(settings: Settings) -> tuple[int, int]:
    """Publish the hours of events that the table does not have yet; returns the numbers of hours and of published
    ones."""
    hours = list(_older_hours(settings))
    published = 0
    for hour_text, keys in hours:
        hour = events.parse_hour(hour_text)
        if commits.live_files(events.EVENTS.name, events.rows_of_hour(hour)):
            continue
        staged = [_stage_events(settings, hour_text, key) for key in keys]
        commits.replace(
            events.EVENTS.name,
            events.rows_of_hour(hour),
            staged,
            content=f"{RUN}-{hour_text}",
            expected=[],
            summary={"dag": "-", "run": RUN, "hour": hour_text},
        )
        published += 1
    return len(hours), published


def _older_hours(settings: Settings) -> Iterator[tuple[str, Sequence[str]]]:
    """Each hour with a version in its state, and the keys of that version's files."""
    for hour, item in query_state(settings.events_hours_table, settings.events_stream, PUBLISHED):
        version = item.get("version", "")
        folder = events.hour_partition(hour)
        keys = list(s3.list_keys(settings.lake_bucket, f"{events.EVENTS.prefix}{folder}version={version}/"))
        if version and keys:
            yield events.hour_text(hour), keys


def _stage_events(settings: Settings, hour_text: str, key: str) -> str:
    """Stage a file of an older version with the columns of the table; returns its key."""
    import pyarrow as pa

    rows = _read(settings, key)
    place = rows.schema.get_field_index("created_datetime")
    times = rows["created_datetime"].cast(pa.timestamp("us", tz="UTC"))
    staged = lake.staging_key("platform", RUN, f"events/{hour_text}/{key.rpartition('/')[2]}")
    body: Any = row_commits.parquet_bytes(rows.set_column(place, "created_datetime", times))
    s3.write_object(settings.lake_bucket, staged, body, "application/vnd.apache.parquet")
    return staged


def migrate_accommodations(settings: Settings) -> tuple[int, int]:
    """Commit the candidates of the newest manifest, unless the table has some; returns the numbers of buckets and of
    committed ones.

    The next run of accommodations_consolidate computes the current catalogue from them.
    """
    import pyarrow as pa

    manifests = list(s3.list_keys(settings.lake_bucket, f"{CANDIDATES.prefix}manifests/"))
    manifest: dict[str, Any] = (
        json.loads(s3.read_object(settings.lake_bucket, max(manifests)).body) if manifests else {"files": {}}
    )
    files = manifest["files"]
    if not files or commits.contents(CANDIDATES.name).snapshot:
        return len(files), 0
    staged = []
    for bucket, each in files.items():
        rows = _read(settings, each["candidates"])
        rows = rows.append_column("bucket", pa.array([int(bucket)] * rows.num_rows, pa.int32()))
        staged.append(lake.staging_key("platform", RUN, f"accommodations/{bucket}.parquet"))
        s3.write_object(
            settings.lake_bucket, staged[-1], row_commits.parquet_bytes(rows), "application/vnd.apache.parquet"
        )
    noted = {
        "buckets": manifest["buckets"],
        "candidate-bytes": sum(each.get("candidate_bytes", 0) for each in files.values()),
    }
    commits.replace(
        CANDIDATES.name,
        "bucket >= 0",
        staged,
        content=RUN,
        expected=[],
        summary={"dag": "-", "run": RUN, **noted},
    )
    return len(files), len(files)


@click.command(cls=AwsCommand)
def migrate() -> None:
    """Move data of an older version to their current place.

    The state of hours of events moves into its own table; hours of events, the history of pulls, and the candidates of
    accommodations are committed to the Iceberg tables.

    Run `sluice deploy` first. Existing rows are not changed, so it can be run again.
    """
    settings = load_settings()
    moved = move_older_hours(settings, utc_now())
    click.echo(f"{settings.events_hours_table}: {moved:,} items of {settings.events_checkpoint_table} moved")
    files, rows = migrate_history(settings)
    click.echo(f"{HISTORY.name}: {files:,} older files, {rows:,} rows of them were not in the table and are now")
    found, published = migrate_events(settings)
    click.echo(f"{events.EVENTS.name}: {found:,} older hours, {published:,} of them were not in the table and are now")
    found, published = migrate_accommodations(settings)
    click.echo(
        f"{CANDIDATES.name}: {found:,} older buckets, {published:,} of them were not in the table and are now;"
        " the next run of accommodations_consolidate computes the current catalogue from the table"
    )
