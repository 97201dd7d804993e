"""Documents that one step of the pipeline stages for the next one."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.core.quarantine import Rejection
from sluice.core.work_queue import Receipts
from sluice.pipelines.datasets.storage import Version


@dataclass(frozen=True)
class Collected:
    """Result of `collect`.

    Attributes:
        receipts: of the messages that named the files; None for a run with a `source`.
        keys: of the files in the landing bucket, each once.
    """

    receipts: Receipts | None
    keys: list[str]


@dataclass(frozen=True)
class StagedOutput:
    """The aggregate of a file.

    Attributes:
        staged: its key in staging.
        key: key to publish it under.
        accepted: rows of the file in it.
        version: of the file.
        expected_etag: ETag of the output published before the file was read; None for none.
    """

    staged: str
    key: str
    accepted: int
    version: Version
    expected_etag: str | None


@dataclass(frozen=True)
class FileResult:
    """Result of a file: aggregated, rejected as a whole, or neither if it is unchanged.

    Attributes:
        address: of the file.
        records_in: number of its rows; a file that is rejected unread counts as one.
        quarantined: number of rejected rows.
        output: its aggregate.
        rejection: reason if it is rejected as a whole.
    """

    address: str
    records_in: int
    quarantined: int
    output: StagedOutput | None = None
    rejection: Rejection | None = None

    @property
    def is_unchanged(self) -> bool:
        """Whether this version of the file is published already."""
        return self.output is None and self.rejection is None
