"""Documents that one step of the pipeline stages for the next one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sluice.core.quarantine import Rejection
from sluice.core.work_queue import Receipts
from sluice.pipelines.modules.records import MessageKey, ReceivedDiagnostic
from sluice.pipelines.modules.transform import Diagnostic, Due, Judgement, Verdict


@dataclass(frozen=True)
class StagedDiagnostic:
    """A diagnostic of the batch.

    Attributes:
        diagnostic: as received.
        source: address of its message.
        record: body of its message.
    """

    diagnostic: ReceivedDiagnostic
    source: str
    record: str

    @property
    def key(self) -> tuple[str, int]:
        """What identifies it: module and timestamp."""
        return self.diagnostic.module_id, self.diagnostic.timestamp


@dataclass(frozen=True)
class Collected:
    """What `collect` stages.

    Attributes:
        message_receipts: deleted once the messages are stored.
        diagnostic_receipts: deleted once the rates are published.
        messages: distinct ones.
        diagnostics: of each (module, timestamp) the latest.
    """

    message_receipts: Receipts
    diagnostic_receipts: Receipts
    messages: list[MessageKey]
    diagnostics: list[StagedDiagnostic]


class Outcome(StrEnum):
    """What a diagnostic came to: a rate, a rejection, the rate that was published before, or nothing of its own."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class StagedVerdict:
    """What `compute_rates` stages for a diagnostic.

    Attributes:
        outcome: what it came to.
        in_batch: whether it came with the messages of this run.
        module_id: the module.
        timestamp: of the diagnostic.
        judged: what was made of it before.
        judgement: what is made of it now; None for a duplicate.
        rejection: its line of the quarantine, where it is rejected.
    """

    outcome: Outcome
    in_batch: bool
    module_id: str
    timestamp: int
    judged: Judgement | None = None
    judgement: Judgement | None = None
    rejection: Rejection | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict again, without its reason; None for a duplicate."""
        if self.judgement is None:
            return None
        diagnostic = Diagnostic(self.module_id, self.timestamp, self.judgement.attempts, self.judged)
        return Verdict(Due(diagnostic, self.judgement.reset), self.judgement)
