"""Commits to Iceberg tables: the commit itself, and replacing a part of a table; `row_commits` has those of rows.

A publication is one commit, which makes one snapshot: a reader sees all of it or nothing. A lost response of Glue must
not be treated as a refusal, as PyIceberg would then delete the manifests of a successful commit: UpdateTable is sent
once, and its success is determined by the id of its snapshot.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice.aws import s3
from sluice.aws.retries import until_done
from sluice.aws.sessions import error_code
from sluice.aws.tables.definitions import PREFIX, Snapshot, load, snapshot_of
from sluice.errors import SluiceError
from sluice.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.update.snapshot import _SnapshotProducer

log = logging.getLogger(__name__)

COMMIT_ATTEMPTS = 10
COMMIT_FIRST_PAUSE_SECONDS = 0.1


class Conflict(SluiceError):
    """Another writer replaced the same part of a table since it was read."""


class TableBusy(SluiceError):
    """A commit was refused in every attempt, or Glue did not answer."""


@dataclass(frozen=True)
class Contents:
    """Current state of a table.

    Attributes:
        snapshot: current snapshot; None before the first publication.
        files: value of the partition -> addresses of its files, sorted.
    """

    snapshot: Snapshot | None
    files: Mapping[Any, list[str]]


@dataclass(frozen=True)
class Commit:
    """The outcome of a commit.

    Attributes:
        snapshot: the snapshot with the content; None for an empty table.
        is_new: whether this commit made it; otherwise the table had the content already.
    """

    snapshot: Snapshot | None
    is_new: bool

    @property
    def snapshot_id(self) -> str | None:
        """The id as text: it exceeds the integers that JavaScript, and therefore Airflow's UI, shows exactly."""
        return str(self.snapshot.snapshot_id) if self.snapshot else None


def contents(name: str, where: str | None = None) -> Contents:
    """The current snapshot of a table, and its files by partition; with a condition, only files that may hold such
    rows.

    Raises:
        TableMissing: there is no such table.
    """
    table = load(load_settings(), name)
    current = table.current_snapshot()
    files: dict[Any, list[str]] = {}
    for task in (table.scan(row_filter=where) if where else table.scan()).plan_files():
        files.setdefault(task.file.partition[0], []).append(task.file.file_path)
    return Contents(
        snapshot_of(table, current) if current else None, {value: sorted(each) for value, each in files.items()}
    )


def live_files(name: str, where: str) -> list[str]:
    """Current addresses of the files of a part of a table, sorted: the `expected` of `replace`.

    Args:
        name: of the table.
        where: condition on the rows, such as `created_datetime >= '2024-04-07T17:00:00+00:00'`.
    """
    return sorted(file.file_path for file in _live(load(load_settings(), name), where))


def _live(table: Table, where: str) -> list[DataFile]:
    return [task.file for task in table.scan(row_filter=where).plan_files()]


@dataclass(frozen=True)
class Part:
    """A part of a table, and its new content.

    Attributes:
        where: condition that is true for exactly the rows of the part, and for the staged ones.
        staged: keys of parquet files in the lake bucket; none to empty the part.
        content: identifier of the content, used in file names.
        expected: the files of the part (`live_files`) on which the new content is based.
    """

    where: str
    staged: Sequence[str]
    content: str
    expected: Sequence[str]


def replace(
    name: str,
    where: str,
    staged: Sequence[str],
    *,
    content: str,
    expected: Sequence[str],
    summary: Mapping[str, object],
) -> Commit:
    """Replace one part of a table; the arguments and the result are those of `Part` and `replace_parts`.

    Raises:
        Conflict: another writer replaced the part meanwhile.
        TableBusy: the commit was refused in every attempt.
        TableMissing: there is no such table.
    """
    part = Part(where, staged, content, expected)
    commit, conflicts = replace_parts(name, [part], summary=summary)
    if conflicts:
        table = f"{load_settings().glue_database}.{name}"
        raise Conflict(f"table {table}: another writer replaced {where} meanwhile")
    return commit


def replace_parts(name: str, parts: Sequence[Part], *, summary: Mapping[str, object]) -> tuple[Commit, list[Part]]:
    """Replace parts of a table by staged files, all in one snapshot.

    A part that has its content already is not changed, and neither is one that another writer replaced meanwhile.

    Args:
        name: of the table.
        parts: disjoint parts.
        summary: properties of the snapshot summary; names are prefixed with `sluice.`.

    Returns:
        The new snapshot, or the current one if there was nothing to replace; and the parts that another writer replaced
        since they were read.

    Raises:
        TableBusy: the commit was refused in every attempt.
        TableMissing: there is no such table.
    """
    from pyiceberg.expressions.parser import parse

    settings = load_settings()
    attempt_id = uuid.uuid4().hex
    conflicts: list[Part] = []

    def change(table: Table, transaction: Transaction) -> _SnapshotProducer[Any] | None:
        conflicts.clear()
        changed: list[tuple[Part, list[DataFile]]] = []
        for part in parts:
            live = _live(table, part.where)
            if _holds(part, live):
                continue
            if sorted(file.file_path for file in live) != sorted(part.expected):
                conflicts.append(part)
                continue
            changed.append((part, live))
        if not changed:
            return None
        copies = {
            f"{PREFIX}{name}/data/{part.content}-{attempt_id}-{n:05d}.parquet": staged
            for part, _ in changed
            for n, staged in enumerate(part.staged)
        }
        # Repeated by a further attempt, which is rare and harmless.
        s3.copy_objects(settings.lake_bucket, [(staged, key) for key, staged in copies.items()])
        update = transaction.update_snapshot(noted(summary)).overwrite()
        for part, live in changed:
            update.delete_by_predicate(parse(part.where))
            for file in live:
                update.delete_data_file(file)
        add_files(settings, table, transaction, update, list(copies))
        return update

    return commit_change(settings, name, change), conflicts


def _holds(part: Part, live: Sequence[DataFile]) -> bool:
    """Whether the files of a part are those of its new content."""
    names = [file.file_path.rpartition("/")[2] for file in live]
    return len(names) == len(part.staged) and all(each.startswith(f"{part.content}-") for each in names)


def noted(summary: Mapping[str, object]) -> dict[str, str]:
    """The properties of a snapshot's summary, under names of this project."""
    return {f"sluice.{name}": str(value) for name, value in summary.items()}


def add_files(
    settings: Settings, table: Table, transaction: Transaction, update: _SnapshotProducer[Any], keys: Sequence[str]
) -> None:
    """Add files to a snapshot, and their new columns to the schema."""
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import parquet_files_to_data_files

    paths = [f"s3://{settings.lake_bucket}/{key}" for key in keys]
    known = set(table.schema().column_names)
    for path in paths:
        with table.io.new_input(path).open() as opened:
            arrow_schema = pq.read_schema(opened)
        if not known.issuperset(arrow_schema.names):
            with transaction.update_schema() as schema:
                schema.union_by_name(arrow_schema)
            known.update(arrow_schema.names)
    for file in parquet_files_to_data_files(table.io, transaction.table_metadata, iter(paths)):
        update.append_data_file(file)


def commit_change(
    settings: Settings,
    name: str,
    change: Callable[[Table, Transaction], _SnapshotProducer[Any] | None],
) -> Commit:
    """Apply a change to the newest state of a table; repeated if another writer was faster or the response is lost.

    Args:
        settings: the settings.
        name: of the table.
        change: adds a snapshot to the transaction; returns None for no change.
    """
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    failures: list[Exception] = []
    committed: list[Commit] = []

    def attempt() -> bool | None:
        table = load(settings, name)
        transaction = table.transaction()
        update = change(table, transaction)
        if update is None:
            current = table.current_snapshot()
            committed.append(Commit(snapshot_of(table, current) if current else None, is_new=False))
            return True
        try:
            update.commit()
            table = transaction.commit_transaction()
        except (CommitFailedException, ValidationException) as refused:
            failures.append(refused)
            return None
        except (BotoCoreError, ClientError) as unknown:
            # The commit may have succeeded nevertheless.
            table = load(settings, name)
            if table.snapshot_by_id(update.snapshot_id) is None:
                if isinstance(unknown, ClientError) and not _is_passing(unknown):
                    raise
                failures.append(unknown)
                return None
        committed.append(Commit(snapshot_of(table, table.snapshot_by_id(update.snapshot_id)), is_new=True))
        return True

    if not until_done(attempt, attempts=COMMIT_ATTEMPTS, first_pause_seconds=COMMIT_FIRST_PAUSE_SECONDS):
        raise TableBusy(
            f"table {settings.glue_database}.{name}: {COMMIT_ATTEMPTS} commits failed, the last with: {failures[-1]}"
        ) from failures[-1]
    (commit,) = committed
    if commit.snapshot and commit.is_new:
        noted = json.dumps(dict(commit.snapshot.summary))
        log.info("table %s: snapshot %d, %s", name, commit.snapshot.snapshot_id, noted)
    return commit


def _is_passing(error: ClientError) -> bool:
    """Whether an error is transient: throttling, a conflict, or an internal error of the service."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or "Throttling" in error_code(error) or error_code(error) == "ConcurrentModificationException"
