"""A message and a weekly diagnostic as received, and the reason codes (docs/pipelines.md, modules). Pure."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sluice.core import strict_json
from sluice.core.quarantine import RejectedRecord

TIMESTAMP_MAX = 2**64 - 1
ATTEMPTS_MAX = 2**32 - 1

MODULE_ID_BYTES = 2048
"""Maximum size of a partition key of DynamoDB, in UTF-8 (DynamoDB developer guide, "Quotas")."""

SPELLINGS = ("moduleId", "moduleid")
"""Both spellings are in use; if a message has both, they must be equal."""

_VERSION_MS_END = 10**13
"""Times in a version have 13 digits (until the year 2286), so that they sort."""


class Reason(StrEnum):
    """Reasons to reject a message or a diagnostic: stable codes for the quarantine."""

    # reading
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    REPEATED_FIELD = "repeated_field"
    MISSING_FIELD = "missing_field"
    CONFLICTING_SPELLINGS = "conflicting_spellings"
    WRONG_TYPE = "wrong_type"
    BAD_MODULE_ID = "bad_module_id"
    NOT_INTEGER = "not_integer"
    OUT_OF_RANGE = "out_of_range"
    # judging
    NO_ATTEMPTS = "no_attempts"
    RATE_ABOVE_100 = "rate_above_100"


class MessageKey(NamedTuple):
    """Key of a message: module, and a uint64 timestamp of any unit."""

    module_id: str
    timestamp: int


class ReceivedDiagnostic(NamedTuple):
    """A weekly diagnostic as received.

    Attributes:
        module_id: the module.
        timestamp: uint64, in the unit of the module's messages.
        attempts: attempted transmissions since the module was reset, uint32.
        version: sorts by the time of sending, then by attempts; of two diagnostics of one key the greater one wins.
    """

    module_id: str
    timestamp: int
    attempts: int
    version: str


def parse_message(body: str) -> MessageKey:
    """The message in a body, raw or wrapped by SNS; unknown fields are ignored.

    Raises:
        RejectedRecord: with one of the reading reasons of `Reason`.
    """
    document, _ = _unwrap(body)
    return MessageKey(_module_id(document), _unsigned(document, "timestamp", TIMESTAMP_MAX))


def parse_diagnostic(body: str, sent_at_ms: int) -> ReceivedDiagnostic:
    """The diagnostic in a body, raw or wrapped by SNS; unknown fields are ignored.

    Args:
        body: as received.
        sent_at_ms: when the queue received it, epoch milliseconds. The time when the topic received it takes
            precedence, as it does not change when a message is sent to the queue again.

    Raises:
        RejectedRecord: with one of the reading reasons of `Reason`.
    """
    document, published_at_ms = _unwrap(body)
    module_id, timestamp = _module_id(document), _unsigned(document, "timestamp", TIMESTAMP_MAX)
    attempts = _unsigned(document, "attempts", ATTEMPTS_MAX)
    first_ms = sent_at_ms if published_at_ms is None else published_at_ms
    return ReceivedDiagnostic(module_id, timestamp, attempts, f"{first_ms:013d}-{sent_at_ms:013d}-{attempts:010d}")


def _unwrap(body: str) -> tuple[dict[str, Any], int | None]:
    """The object in a body, and when SNS received it (epoch milliseconds), if known."""
    document = _load(body)
    if document.get("Type") != "Notification" or not isinstance(document.get("Message"), str):
        return document, None
    return _load(document["Message"]), _published_at_ms(document.get("Timestamp"))


def _load(text: str) -> dict[str, Any]:
    document = strict_json.parse(text)
    if not isinstance(document, dict):
        raise RejectedRecord(Reason.NOT_OBJECT, "message is JSON, but not an object")
    return document


def _published_at_ms(timestamp: object) -> int | None:
    """The time in an SNS envelope (ISO 8601, UTC where it names no zone) in epoch milliseconds; None if it is
    invalid."""
    try:
        moment = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return None
    milliseconds = round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
    return milliseconds if 0 <= milliseconds < _VERSION_MS_END else None


def _module_id(document: dict[str, Any]) -> str:
    found = [document[spelling] for spelling in SPELLINGS if spelling in document]
    if not found:
        raise RejectedRecord(Reason.MISSING_FIELD, "message lacks moduleId")
    if found[0] != found[-1]:
        raise RejectedRecord(Reason.CONFLICTING_SPELLINGS, "moduleId and moduleid are not equal")
    module_id = found[0]
    if not isinstance(module_id, str):
        raise RejectedRecord(Reason.WRONG_TYPE, "moduleId is not a string")
    if not module_id.strip():
        raise RejectedRecord(Reason.BAD_MODULE_ID, "moduleId is empty or blank")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in module_id):
        raise RejectedRecord(Reason.BAD_MODULE_ID, "moduleId has a control character or a lone surrogate")
    size_bytes = len(module_id.encode())
    if size_bytes > MODULE_ID_BYTES:
        raise RejectedRecord(Reason.BAD_MODULE_ID, f"moduleId has {size_bytes} bytes, more than {MODULE_ID_BYTES}")
    return module_id


def _unsigned(document: dict[str, Any], field: str, maximum: int) -> int:
    if field not in document:
        raise RejectedRecord(Reason.MISSING_FIELD, f"message lacks {field}")
    number = document[field]
    if not strict_json.is_number(number):
        raise RejectedRecord(Reason.WRONG_TYPE, f"{field} is not a number")
    value = strict_json.integral(number)
    if value is None:
        raise RejectedRecord(Reason.NOT_INTEGER, f"{field} has a fraction")
    if not 0 <= value <= maximum:
        raise RejectedRecord(Reason.OUT_OF_RANGE, f"{field} is not between 0 and {maximum}")
    return value
