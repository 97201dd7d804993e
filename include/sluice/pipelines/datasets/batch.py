"""What one step of the pipeline stages and the next one reads."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.core.quarantine import Rejection
from sluice.core.work_queue import Receipts
from sluice.pipelines.datasets.storage import Version


@dataclass(frozen=True)
class Collected:
    """What `collect` stages.

    Attributes:
        receipts: of the messages that named the files; None where a person did.
        keys: of the files in the landing bucket, each once.
    """

    receipts: Receipts | None
    keys: list[str]


@dataclass(frozen=True)
class StagedOutput:
    """The aggregate of a file.

    Attributes:
        staged: its key.
        key: that it is published under.
        accepted: rows of the file in it.
        version: of the file.
        expected_etag: of the output that was published before the file was read; None where there was none.
    """

    staged: str
    key: str
    accepted: int
    version: Version
    expected_etag: str | None


@dataclass(frozen=True)
class FileResult:
    """What became of a file: aggregated, rejected as a whole, or neither where it is unchanged.

    Attributes:
        address: of the file.
        records_in: its rows; a file that is rejected unread counts as one.
        quarantined: those that were rejected.
        output: its aggregate.
        rejection: why it is rejected as a whole.
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
