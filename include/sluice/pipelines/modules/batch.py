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
        """Its key: module and timestamp."""
        return self.diagnostic.module_id, self.diagnostic.timestamp


@dataclass(frozen=True)
class Collected:
    """Result of `collect`.

    Attributes:
        message_receipts: deleted once the messages are stored.
        diagnostic_receipts: deleted once the rates are published.
        messages: distinct messages.
        diagnostics: the latest one of each (module, timestamp).
    """

    message_receipts: Receipts
    diagnostic_receipts: Receipts
    messages: list[MessageKey]
    diagnostics: list[StagedDiagnostic]


class Outcome(StrEnum):
    """Outcome of a diagnostic: a new rate, a rejection, an unchanged rate, or a duplicate."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class StagedVerdict:
    """Result of `compute_rates` for a diagnostic.

    Attributes:
        outcome: its outcome.
        in_batch: whether it was received by this run.
        module_id: the module.
        timestamp: of the diagnostic.
        judged: the stored judgement.
        judgement: the new judgement; None for a duplicate.
        rejection: its line of the quarantine, if it is rejected.
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
        """The verdict without its reason; None for a duplicate."""
        if self.judgement is None:
            return None
        diagnostic = Diagnostic(self.module_id, self.timestamp, self.judgement.attempts, self.judged)
        return Verdict(Due(diagnostic, self.judgement.reset), self.judgement)
