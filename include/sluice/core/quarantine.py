"""Rejected records: a bad record never fails the other records of its batch, and is never lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


class RejectedRecord(ValueError):
    """A record that violates a rule of its pipeline.

    Attributes:
        reason: a stable reason code, such as `missing_field`.
        detail: one sentence for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = str(reason)
        self.detail = printable(detail)
        super().__init__(f"{self.detail} (quarantined as {reason})")


@dataclass(frozen=True)
class Rejection:
    """One line of a quarantine file.

    Attributes:
        source: where the record came from, an address a person can open.
        reason: the reason code.
        record: the record as received.
        detail: what exactly is wrong.
    """

    source: str
    reason: str
    record: str
    detail: str

    def __str__(self) -> str:
        return printable(f"{self.source}: {self.detail} (quarantined as {self.reason})")


def printable(text: str) -> str:
    """The text with lone surrogates escaped: JSON can contain them, UTF-8 and therefore a log cannot."""
    return text.encode(errors="backslashreplace").decode()


def write_rejections(bucket: str, key: str, rejections: Sequence[Rejection]) -> str:
    """Write rejections as JSON Lines; returns the s3:// address."""
    # Imported here: the transform of Firehose parses records in a Lambda without settings.
    from sluice.aws import s3

    return s3.write_json_lines(bucket, key, [asdict(each) for each in rejections])
