"""The shape of a partner's record, and the reasons to reject a record or a whole file. Pure: no AWS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sluice import lake
from sluice.core.run import EPOCH

LANDING_PREFIX = "accommodations/"
"""Prefix of the partners' files in the landing bucket."""

CURATED_PREFIX = "curated/accommodations/"

MAX_BYTES = 500_000
"""Maximum size of an output file, and therefore of a line with its newline (docs/pipelines.md, accommodations)."""

MAX_RAW_BYTES = 16 * MAX_BYTES
"""Maximum size of a line or array element as received; bounds the memory for it. With indentation it takes two or three
times the size of the output, with escapes only six times."""


class Reason(StrEnum):
    """Reason codes of a line, or of the event of a file, in quarantine."""

    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    REPEATED_FIELD = "repeated_field"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    EMPTY_FIELD = "empty_field"
    TOO_LARGE = "too_large"
    CUT_OFF = "cut_off"
    OBJECT_MISSING = "object_missing"

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        return _DETAILS[self]


_DETAILS = {
    Reason.NOT_UTF8: "the line or element is not UTF-8",
    Reason.NOT_JSON: "the line or element is not JSON",
    Reason.NOT_OBJECT: "the record is not a JSON object",
    Reason.REPEATED_FIELD: "a field is repeated",
    Reason.MISSING_FIELD: "partner_name, accommodation_id and accommodation_data must be present and not null",
    Reason.WRONG_TYPE: "partner_name and accommodation_id must be text, accommodation_data an object",
    Reason.EMPTY_FIELD: "partner_name and accommodation_id must not be empty",
    Reason.TOO_LARGE: f"the record takes more than {MAX_BYTES} bytes of an output file, or {MAX_RAW_BYTES} bytes as it"
    " is written; its beginning is kept here",
    Reason.CUT_OFF: "the file ends before its JSON array does: elements after the last one may be missing",
    Reason.OBJECT_MISSING: "the file was deleted before it was read",
}


class Flaw(StrEnum):
    """Reasons why a file cannot be read; its message stays in the queue."""

    COMPRESSED = "compressed"
    UTF16 = "utf16"
    NO_JSON = "no_json"

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        return _FLAW_DETAILS[self]


_FLAW_DETAILS = {
    Flaw.COMPRESSED: "it is compressed with gzip: upload it uncompressed",
    Flaw.UTF16: "it is UTF-16: write it as UTF-8",
    Flaw.NO_JSON: "not one of its lines, or elements of its array, is JSON",
}


@dataclass(frozen=True)
class PartnerFile:
    """One version of an object, as it was when its event was received.

    Attributes:
        bucket: the landing bucket.
        key: the object's key, decoded.
        version_id: of S3; "null" in a bucket without versions.
        modified_at: when S3 stored it (UTC, whole seconds); a newer file wins.
        size_bytes: of the object.
    """

    bucket: str
    key: str
    version_id: str
    modified_at: datetime
    size_bytes: int

    @property
    def source(self) -> str:
        """An address that a person can open."""
        return f"s3://{self.bucket}/{self.key}?versionId={self.version_id}"


def by_age(files: Sequence[PartnerFile]) -> list[PartnerFile]:
    """Files from the oldest to the newest; times are whole seconds, so the key breaks ties."""
    return sorted(files, key=lambda file: (file.modified_at, file.key))


def output_key(microsecond: int) -> str:
    """Key of an output file from its reserved microsecond (since 1970, UTC), which is its day and its name."""
    day = EPOCH + timedelta(microseconds=microsecond)
    return f"{CURATED_PREFIX}{lake.day_partition(day)}/output_object-{microsecond}.jsonl"


def usable_partners(priority: Sequence[str], blocked: Sequence[str]) -> list[str]:
    """Partners whose records may be used, best first; of a repeated name the first place counts."""
    refused = set(blocked)
    return [name for name in dict.fromkeys(priority) if name not in refused]
