"""What one step of the pipeline stages and the next one reads."""

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
    """What a run took from the queue.

    Attributes:
        number: of the batch that was published last; makes the batch one of its own where it has no message.
        withdraw: accommodations whose earlier records are left out.
        receipts: of all messages.
        events: (message id, key of a file) of each event of a file.
        files: to be read, from the oldest to the newest.
        rejections: events that name no file, or one that was deleted.
        events_in: events, rejected ones included.
        duplicate_events: events of files that are read once, or were published before.
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
    """What a batch changes of the two tables.

    Attributes:
        buckets: number of buckets from now on.
        candidate_bytes: size of all candidates then, about.
        lists: digest of the lists that it was made under.
        is_outdated: whether all of the current catalogue was computed anew.
        candidates: the part of the candidates that is replaced; None where there is nothing to do.
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
    """What a run will publish.

    Attributes:
        run: the run as a part of a key.
        collected: digest of what it took from the queue.
        base: number of the batch whose tables this one was made on.
        outputs: keys of the output files in staging, in order.
        rejected: key of the rejected records in staging, as they go to quarantine; None where there are none.
        rejections: rejected events.
        sources: addresses of the files that were read.
        receipts: of the messages to delete: not those of files that cannot be read.
        catalogue: what changes of the tables.
        counts: what the gate looks at.
        unknown_partners: the same, names on no list as a text.
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
        """What became of the records, the files and the outputs."""
        return {name: self.counts[name] for name in (*RECORD_COUNTS, "outputs", "unreadable")}

    @property
    def measures(self) -> dict[str, object]:
        """The row that the gate looks at."""
        # Without outputs there is no file that could be too small.
        smallest = self.counts["smallest_file_bytes"] if self.outputs else None
        return {**self.counts, "smallest_file_bytes": smallest, "unknown_partners": self.unknown_partners}
