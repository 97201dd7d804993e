"""The rule of the success rate (docs/pipelines.md, modules): resets, and which rates are due. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.modules.records import Reason

RULE_VERSION = 1
"""Raised with each change of the rule; `rebuild` of `modules_diagnostics` judges again what an older rule judged."""


class Judgement(NamedTuple):
    """What was made of a diagnostic.

    Attributes:
        attempts: of the diagnostic at that time; a correction changes them.
        reset: messages after this timestamp were counted.
        received: how many there were.
        success_rate: what was published, percent; None where the diagnostic was rejected.
        rule_version: of the rule that said so.
    """

    attempts: int
    reset: int
    received: int
    success_rate: float | None
    rule_version: int = RULE_VERSION


class Diagnostic(NamedTuple):
    """A stored diagnostic and what was made of it, if anything yet.

    Attributes:
        module_id: the module.
        timestamp: as the module sent it.
        attempts: transmissions since the module was reset.
        judged: what was made of it.
        judged_by: the run that did; None in items of older versions.
        judged_at: when (UTC); None in items of older versions.
    """

    module_id: str
    timestamp: int
    attempts: int
    judged: Judgement | None = None
    judged_by: str | None = None
    judged_at: datetime | None = None


class Due(NamedTuple):
    """A diagnostic that is to be judged, and the timestamp of the reset that it counts from."""

    diagnostic: Diagnostic
    reset: int


class Verdict(NamedTuple):
    """What a diagnostic comes to.

    Attributes:
        due: the diagnostic with what was made of it before.
        judgement: what is made of it now.
        reason: why nothing is published; None where a rate is.
        detail: the same for a person.
    """

    due: Due
    judgement: Judgement
    reason: Reason | None = None
    detail: str = ""

    @property
    def is_news(self) -> bool:
        """Whether it is to be published, or quarantined: not where only the reset moved and the rate stayed."""
        before = self.due.diagnostic.judged
        now = self.judgement
        return before is None or (before.attempts, before.success_rate) != (now.attempts, now.success_rate)


def judge(due: Due, received: int) -> Verdict:
    """The verdict on a diagnostic of whose module so many messages were received since the reset."""
    attempts = due.diagnostic.attempts
    try:
        rate = success_rate(received, attempts)
        return Verdict(due, Judgement(attempts, due.reset, received, rate, RULE_VERSION))
    except RejectedRecord as rejected:
        judgement = Judgement(attempts, due.reset, received, None, RULE_VERSION)
        return Verdict(due, judgement, Reason(rejected.reason), rejected.detail)


def find_due(diagnostics: Sequence[Diagnostic], *, rebuild: bool = False) -> list[Due]:
    """Diagnostics of one module that were not judged with their attempts and their reset, in order of time.

    A diagnostic that arrives late, or a correction, may move the reset of those that follow: they are due again.

    Args:
        diagnostics: all that are known of the module, by timestamp.
        rebuild: also those that an older version of the rule judged.
    """
    due = []
    for diagnostic, reset in zip(diagnostics, find_resets(diagnostics), strict=True):
        judged = diagnostic.judged
        is_outdated = rebuild and judged is not None and judged.rule_version < RULE_VERSION
        if judged is None or is_outdated or (judged.attempts, judged.reset) != (diagnostic.attempts, reset):
            due.append(Due(diagnostic, reset))
    return due


def find_resets(diagnostics: Sequence[Diagnostic]) -> list[int]:
    """For each diagnostic of a module, the timestamp that its attempts count from.

    The module was reset where a diagnostic has fewer attempts than the one before it; it counts from that earlier one,
    and from 0 before the first reset.
    """
    resets = []
    reset = 0
    for number, diagnostic in enumerate(diagnostics):
        if number and diagnostic.attempts < diagnostics[number - 1].attempts:
            reset = diagnostics[number - 1].timestamp
        resets.append(reset)
    return resets


def success_rate(received: int, attempts: int) -> float:
    """Percentage of transmissions that arrived.

    The exact quotient is rounded to a float once, so it is the same number wherever it is computed.

    Raises:
        RejectedRecord: reason `no_attempts` or `rate_above_100`.
    """
    if attempts == 0:
        raise RejectedRecord(Reason.NO_ATTEMPTS, f"attempts is 0, {received} messages were received")
    if received > attempts:
        raise RejectedRecord(Reason.RATE_ABOVE_100, f"{received} messages were received in {attempts} attempts")
    return 100 * received / attempts


def publication(module_id: str, timestamp: int, rate: float) -> str:
    """The message on the topic `success_rate`."""
    return json.dumps({"moduleid": module_id, "timestamp": timestamp, "success_rate": rate})
