"""The two Iceberg tables of the pipeline: candidates, and the current catalogue derived from them and the lists.

Both are partitioned by buckets of accommodations. Iceberg commits one table at a time: candidates first. The ledger
stores the ids of both snapshots, which show whether the current catalogue is up to date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.aws import s3
from sluice.aws.tables import commits
from sluice.aws.tables.commits import Contents, Part
from sluice.aws.tables.definitions import Column, TableDefinition
from sluice.core.run import Run
from sluice.errors import TerminalError
from sluice.pipelines.accommodations.storage import Catalogue

CANDIDATES = TableDefinition(
    "accommodations_candidates",
    "The newest record of every accommodation and partner, including blocked and unlisted partners",
    (
        Column("accommodation_id", "string", "of the accommodation"),
        Column("partner_name", "string", "partner that sent the record"),
        Column("accommodation_data", "string", "data of the partner, JSON"),
        Column("modified_at", "long", "when S3 stored the partner's file (microseconds since 1970, UTC)"),
        Column("object_key", "string", "of the partner's file"),
        Column("batch_number", "long", "of the batch that added it"),
        Column("line", "long", "in the partner's file, from 1"),
        Column("bucket", "int", "of the accommodation, by MD5"),
    ),
    partition_column="bucket",
    partition_by="identity",
)

CURRENT = TableDefinition(
    "accommodations_current",
    "The latest consolidated record of every accommodation",
    (
        Column("accommodation_id", "string", "of the accommodation"),
        Column("partner_name", "string", "the partner with the highest priority for it"),
        Column("accommodation_data", "string", "data of the partner, JSON"),
        Column("bucket", "int", "of the accommodation, by MD5"),
    ),
    partition_column="bucket",
    partition_by="identity",
)


class ForeignSnapshot(TerminalError):
    """The table of candidates was changed by another writer than this pipeline."""


@dataclass(frozen=True)
class Tables:
    """Current state of the two tables, and the lists.

    Attributes:
        candidates: state of `accommodations_candidates`.
        current: state of `accommodations_current`.
        lists: digest of the lists.
        buckets: number of buckets.
        candidate_bytes: approximate size of all candidates in memory.
    """

    candidates: Contents
    current: Contents
    lists: str
    buckets: int
    candidate_bytes: int

    @property
    def state(self) -> str:
        """Version of candidates, current catalogue and lists: `current` is up to date while this does not change."""
        ids = [each.snapshot.snapshot_id if each.snapshot else 0 for each in (self.candidates, self.current)]
        return f"candidates {ids[0]}, current {ids[1]}, lists {self.lists}"

    def is_outdated(self, found: Catalogue) -> bool:
        """Whether all of `current` must be computed anew: the lists changed, a table was rolled back, or a batch was
        abandoned between its two commits.
        """
        return self.candidates.snapshot is not None and found.committed_state != self.state


def read_tables(lists: str) -> Tables:
    """Read the current state of the two tables.

    Args:
        lists: digest of the lists.

    Raises:
        ForeignSnapshot: the number of buckets of the candidates is unknown.
        TableMissing: nothing is deployed.
    """
    candidates, current = commits.contents(CANDIDATES.name), commits.contents(CURRENT.name)
    if candidates.snapshot is None:
        return Tables(candidates, current, lists, 1, 0)
    noted = candidates.snapshot.summary
    if "sluice.buckets" not in noted:
        name = CANDIDATES.name
        raise ForeignSnapshot(
            f"snapshot {candidates.snapshot.snapshot_id} of table {name} was not committed by"
            f" accommodations_consolidate: `sluice tables history {name}` lists those that were, and"
            f" `sluice tables rollback {name} SNAPSHOT` goes back to one"
        )
    return Tables(candidates, current, lists, int(noted["sluice.buckets"]), int(noted["sluice.candidate-bytes"]))


class StagedFiles:
    """Staged files of a table, and the digest of their content."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._keys: list[str] = []
        self._digest = hashlib.sha256()

    def add(self, path: Path) -> None:
        """Stage a file, which may be deleted afterwards."""
        key = self._run.staging_key(path.name)
        s3.upload_files(self._run.bucket, [(path, key)])
        self._keys.append(key)
        with path.open("rb") as opened:
            self._digest.update(hashlib.file_digest(opened, "sha256").digest())

    def replacing(self, live: Mapping[int, Sequence[str]], buckets: set[int] | None) -> Part | None:
        """The part of the table to replace by the files: the given buckets, or all if None. None for no change."""
        if buckets is not None and not buckets:
            return None
        numbers = sorted(live if buckets is None else buckets)
        return Part(
            where="bucket >= 0" if buckets is None else f"bucket in ({', '.join(map(str, numbers))})",
            staged=self._keys,
            content=self._digest.hexdigest()[:16],
            expected=sorted(address for number in numbers for address in live.get(number, [])),
        )
