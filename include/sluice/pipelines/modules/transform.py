"""The rule of the success rate (docs/pipelines.md, modules): resets, and the due rates. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.modules.records import Reason

RULE_VERSION = 1
"""Raise it with each change of the rule; `rebuild` of `modules_diagnostics` judges again what an older version
judged."""


class Judgement(NamedTuple):
    """Stored result of judging a diagnostic.

    Attributes:
        attempts: of the diagnostic at that time; a correction changes them.
        reset: messages after this timestamp were counted.
        received: number of these messages.
        success_rate: published rate, percent; None if the diagnostic was rejected.
        rule_version: version of the rule.
    """

    attempts: int
    reset: int
    received: int
    success_rate: float | None
    rule_version: int = RULE_VERSION


class Diagnostic(NamedTuple):
    """A stored diagnostic with its judgement, if it has one.

    Attributes:
        module_id: the module.
        timestamp: as the module sent it.
        attempts: transmissions since the module was reset.
        judged: its judgement.
        judged_by: the run that judged it; None in items of older versions.
        judged_at: when (UTC); None in items of older versions.
    """

    module_id: str
    timestamp: int
    attempts: int
    judged: Judgement | None = None
    judged_by: str | None = None
    judged_at: datetime | None = None


class Due(NamedTuple):
    """A diagnostic to judge, and the timestamp of the reset that its attempts count from."""

    diagnostic: Diagnostic
    reset: int


class Verdict(NamedTuple):
    """Result of judging a diagnostic.

    Attributes:
        due: the diagnostic with its stored judgement.
        judgement: the new judgement.
        reason: reason code of a rejection; None if a rate is published.
        detail: the same for a person.
    """

    due: Due
    judgement: Judgement
    reason: Reason | None = None
    detail: str = ""

    @property
    def is_news(self) -> bool:
        """Whether it is published or quarantined: not if only the reset changed and the rate did not."""
        before = self.due.diagnostic.judged
        now = self.judgement
        return before is None or (before.attempts, before.success_rate) != (now.attempts, now.success_rate)


def judge(due: Due, received: int) -> Verdict:
    """The verdict on a diagnostic, given the number of messages received since the reset."""
    attempts = due.diagnostic.attempts
    try:
        rate = success_rate(received, attempts)
        return Verdict(due, Judgement(attempts, due.reset, received, rate, RULE_VERSION))
    except RejectedRecord as rejected:
        judgement = Judgement(attempts, due.reset, received, None, RULE_VERSION)
        return Verdict(due, judgement, Reason(rejected.reason), rejected.detail)


def find_due(diagnostics: Sequence[Diagnostic], *, rebuild: bool = False) -> list[Due]:
    """Diagnostics of one module that were not judged with their current attempts and reset, in order of time.

    A late diagnostic, or a correction, may change the reset of later ones, which are due again.

    Args:
        diagnostics: all stored ones of the module, by timestamp.
        rebuild: also those judged by an older version of the rule.
    """
    due = []
    for diagnostic, reset in zip(diagnostics, find_resets(diagnostics), strict=True):
        judged = diagnostic.judged
        is_outdated = rebuild and judged is not None and judged.rule_version < RULE_VERSION
        if judged is None or is_outdated or (judged.attempts, judged.reset) != (diagnostic.attempts, reset):
            due.append(Due(diagnostic, reset))
    return due


def find_resets(diagnostics: Sequence[Diagnostic]) -> list[int]:
    """The timestamp that the attempts of each diagnostic of a module count from.

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
    """Percentage of transmissions that were received.

    The exact quotient is rounded to a float once, so it is the same on every machine.

    Raises:
        RejectedRecord: reason `no_attempts` or `rate_above_100`.
    """
    if attempts == 0:
        raise RejectedRecord(Reason.NO_ATTEMPTS, f"attempts is 0, {received} messages were received")
    if received > attempts:
        raise RejectedRecord(Reason.RATE_ABOVE_100, f"{received} messages were received in {attempts} attempts")
    return 100 * received / attempts


def rate_message(module_id: str, timestamp: int, rate: float) -> str:
    """The message on the topic `success_rate`."""
    return json.dumps({"moduleid": module_id, "timestamp": timestamp, "success_rate": rate})
