"""Documents that one step of the pipeline stages for the next one."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.aws.tables.commits import Part
from sluice.core.quarantine import Rejection
from sluice.core.work_queue import Receipts
from sluice.pipelines.accommodations.expectations import RECORD_COUNTS
from sluice.pipelines.accommodations.records import PartnerFile

COLLECTED, BATCH = "collected.json", "batch.json"


@dataclass(frozen=True)
class Collected:
    """Messages that a run received.

    Attributes:
        number: number of the last published batch; identifies a batch without messages.
        withdraw: accommodations whose earlier records are removed.
        receipts: of all messages.
        events: (message id, key of a file) of each event.
        files: files to read, from the oldest to the newest.
        rejections: events that name no file, or a deleted one.
        events_in: events, rejected ones included.
        duplicate_events: further events of a file, or events of files published before.
    """

    number: int
    withdraw: list[str]
    receipts: Receipts
    events: list[tuple[str, str]]
    files: list[PartnerFile]
    rejections: list[Rejection]
    events_in: int
    duplicate_events: int


@dataclass(frozen=True)
class CatalogueChange:
    """Changes of a batch to the two tables.

    Attributes:
        buckets: new number of buckets.
        candidate_bytes: approximate size of all candidates afterwards.
        lists: digest of the partner lists that were applied.
        is_outdated: whether the whole current catalogue was computed anew.
        candidates: the part of the candidates to replace; None for no change.
        current: the same of the current catalogue.
    """

    buckets: int
    candidate_bytes: int
    lists: str
    is_outdated: bool
    candidates: Part | None
    current: Part | None


@dataclass(frozen=True)
class Batch:
    """A batch to publish.

    Attributes:
        run: the run as a part of a key.
        collected: digest of the staged `Collected`.
        base: number of the batch on whose tables this one is based.
        outputs: keys of the output files in staging, in order.
        rejected: key of the rejected records in staging, in the format of the quarantine; None for none.
        rejections: rejected events.
        sources: addresses of the files that were read.
        receipts: of the messages to delete, without those of unreadable files.
        catalogue: changes of the tables.
        counts: measures of the gate.
        unknown_partners: names of unlisted partners as a text, for the gate.
    """

    run: str
    collected: str
    base: int
    outputs: list[str]
    rejected: str | None
    rejections: list[Rejection]
    sources: list[str]
    receipts: Receipts
    catalogue: CatalogueChange
    counts: dict[str, int]
    unknown_partners: str

    @property
    def record_counts(self) -> dict[str, int]:
        """Counts of the records, files and outputs."""
        return {name: self.counts[name] for name in (*RECORD_COUNTS, "outputs", "unreadable")}

    @property
    def measures(self) -> dict[str, object]:
        """The row of measures of the gate."""
        # Without outputs no file can be too small.
        smallest = self.counts["smallest_file_bytes"] if self.outputs else None
        return {**self.counts, "smallest_file_bytes": smallest, "unknown_partners": self.unknown_partners}
