"""A message and a weekly diagnostic as received, and the reason codes of `modules` (contract, section 3). Pure."""

from __future__ import annotations

import json
import unicodedata
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn

from sluice.quarantine import RejectedRecord

TIMESTAMP_MAX = 2**64 - 1
ATTEMPTS_MAX = 2**32 - 1

MODULE_ID_BYTES = 2048
"""A partition key of DynamoDB, in UTF-8, at the most (DynamoDB developer guide, "Quotas")."""

SPELLINGS = ("moduleId", "moduleid")
"""Both are sent; where a message has both, they must be equal."""

_DIGITS = 30
"""Digits of an integer that are read: more than any that is allowed has."""


class Reason(StrEnum):
    """Why a message or a diagnostic was rejected: stable codes for the quarantine."""

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
    """What identifies a message: module, and a timestamp of uint64, whatever its unit."""

    module_id: str
    timestamp: int


class ReceivedDiagnostic(NamedTuple):
    """A weekly diagnostic as received.

    Attributes:
        module_id: the module.
        timestamp: uint64, in the unit of the module's messages.
        attempts: transmissions tried since the module was reset, uint32.
        version: sorts by the time of sending, then by attempts; of two diagnostics of one key the greater counts.
    """

    module_id: str
    timestamp: int
    attempts: int
    version: str


def parse_message(body: str) -> MessageKey:
    """The message in a body, raw or wrapped by SNS; unknown fields are passed over.

    Raises:
        RejectedRecord: with one of the reading reasons of `Reason`.
    """
    document, _ = _unwrap(body)
    return MessageKey(_module_id(document), _unsigned(document, "timestamp", TIMESTAMP_MAX))


def parse_diagnostic(body: str, sent_at_ms: int) -> ReceivedDiagnostic:
    """The diagnostic in a body, raw or wrapped by SNS; unknown fields are passed over.

    Args:
        body: as received.
        sent_at_ms: when the queue took it, epoch milliseconds. When the topic took it counts first: that stays as it
            was where a message is sent to the queue again.

    Raises:
        RejectedRecord: with one of the reading reasons of `Reason`.
    """
    document, published_at_ms = _unwrap(body)
    module_id, timestamp = _module_id(document), _unsigned(document, "timestamp", TIMESTAMP_MAX)
    attempts = _unsigned(document, "attempts", ATTEMPTS_MAX)
    first_ms = sent_at_ms if published_at_ms is None else published_at_ms
    return ReceivedDiagnostic(module_id, timestamp, attempts, f"{first_ms:013d}-{sent_at_ms:013d}-{attempts:010d}")


def _unwrap(body: str) -> tuple[dict[str, Any], int | None]:
    """The object in a body, and when SNS took it (epoch milliseconds) where it says so."""
    document = _load(body)
    if document.get("Type") != "Notification" or not isinstance(document.get("Message"), str):
        return document, None
    try:
        published_at_ms = round(datetime.fromisoformat(str(document.get("Timestamp"))).timestamp() * 1000)
    except ValueError:
        return _load(document["Message"]), None
    return _load(document["Message"]), published_at_ms


def _load(text: str) -> dict[str, Any]:
    try:
        document = json.loads(
            text,
            parse_int=_bounded_integer,
            # Not float, which has 53 bits for the 64 of a timestamp.
            parse_float=Decimal,
            parse_constant=_reject_constant,
            object_pairs_hook=_distinct_fields,
        )
    except RecursionError:
        raise RejectedRecord(Reason.NOT_JSON, "message is nested too deeply") from None
    except RejectedRecord:
        raise
    except ValueError as error:
        raise RejectedRecord(Reason.NOT_JSON, f"message is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RejectedRecord(Reason.NOT_OBJECT, "message is JSON, but not an object")
    return document


def _bounded_integer(text: str) -> int:
    # Python reads no integer of more than 4300 digits; cut, it is still out of every range here.
    return int(text[:_DIGITS])


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is Python, not JSON")


def _distinct_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise RejectedRecord(Reason.REPEATED_FIELD, "a field is there twice")
    return document


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
        raise RejectedRecord(Reason.BAD_MODULE_ID, "moduleId has a control character or half of a surrogate pair")
    size_bytes = len(module_id.encode())
    if size_bytes > MODULE_ID_BYTES:
        raise RejectedRecord(Reason.BAD_MODULE_ID, f"moduleId has {size_bytes} bytes, more than {MODULE_ID_BYTES}")
    return module_id


def _unsigned(document: dict[str, Any], field: str, maximum: int) -> int:
    if field not in document:
        raise RejectedRecord(Reason.MISSING_FIELD, f"message lacks {field}")
    value = document[field]
    if isinstance(value, Decimal):
        raise RejectedRecord(Reason.NOT_INTEGER, f"{field} has a fraction or an exponent")
    if not isinstance(value, int) or isinstance(value, bool):
        raise RejectedRecord(Reason.WRONG_TYPE, f"{field} is not a number")
    if not 0 <= value <= maximum:
        raise RejectedRecord(Reason.OUT_OF_RANGE, f"{field} is not between 0 and {maximum}")
    return value
