"""Strict parser for JSON from outside: RFC 8259, exact numbers, every error a rejection. Pure.

Documents that this project wrote itself are read with `json.loads`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from enum import StrEnum
from typing import Any, NoReturn, TypeGuard

from sluice.core.quarantine import RejectedRecord

DEPTH_MAX = 500
"""Maximum nesting of arrays and objects. A fixed limit, as that of Python depends on the depth of the call stack."""

_BRACKET_OR_STRING = re.compile(r'[\[{\]}]|"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class Reason(StrEnum):
    """Reasons to reject a document independent of its fields; all pipelines share these codes."""

    NOT_JSON = "not_json"
    REPEATED_FIELD = "repeated_field"
    OUT_OF_RANGE = "out_of_range"


def parse(document: str | bytes) -> Any:
    """The value of a JSON document; a byte order mark before it is ignored.

    A number is an `int` where it is spelled as one, else a `Decimal`, both exact; see `integral`. Each is within the
    range of binary64, which every reader of JSON supports: no 1e400, no 1e-400 (RFC 8259, section 6). A string may hold
    a lone surrogate, which has no UTF-8 encoding (section 8.2): the caller checks the strings that it uses.

    Raises:
        RejectedRecord: with one of the reasons of `Reason`. `not_json` also for bytes that are not UTF-8, for NaN and
            Infinity, and for arrays and objects more than `DEPTH_MAX` deep; `out_of_range` for a number anywhere in
            the document; `repeated_field` for two fields of one name in one object.
    """
    try:
        text = (document.decode() if isinstance(document, bytes) else document).removeprefix("\ufeff")
        if is_too_deep(text):
            raise ValueError(f"nested more than {DEPTH_MAX} deep")
        return json.loads(
            text,
            parse_int=_parse_integer,
            parse_float=_parse_decimal,
            parse_constant=_reject_constant,
            object_pairs_hook=_distinct_fields,
        )
    except RejectedRecord:
        raise
    except ValueError as error:  # of the syntax, or of UTF-8
        raise RejectedRecord(Reason.NOT_JSON, f"not JSON: {error}") from None


def is_number(value: object) -> TypeGuard[int | Decimal]:
    """Whether a value of `parse` is a number; a boolean is not."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def integral(number: int | Decimal) -> int | None:
    """The integer that a number of `parse` is exactly, however spelled (12, 12.0, 1.2e1); None for a fraction."""
    whole = int(number)
    return whole if whole == number else None


def is_too_deep(text: str) -> bool:
    """Whether arrays and objects are nested more than `DEPTH_MAX` deep (RFC 8259, section 9); in linear time."""
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return False
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > DEPTH_MAX:
            return True
    return False


def _parse_integer(text: str) -> int:
    _check_range(text)
    return int(text)  # at most 309 digits


def _parse_decimal(text: str) -> Decimal:
    _check_range(text)
    # No Decimal has the exponent of 0e9999999999999999999.
    return Decimal(text) if _is_nonzero(text) else Decimal(0)


def _check_range(text: str) -> None:
    """Compared as binary64, since a Decimal of such an exponent raises, and an integer takes any time and memory."""
    nearest = float(text)
    if nearest in (float("inf"), float("-inf")) or (nearest == 0 and _is_nonzero(text)):
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise RejectedRecord(Reason.OUT_OF_RANGE, f"number {shown} is beyond the range of binary64")


def _is_nonzero(text: str) -> bool:
    significand, _, _ = text.lower().partition("e")
    return significand.strip("-0.") != ""


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _distinct_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RejectedRecord(Reason.REPEATED_FIELD, "a field is repeated")
    return fields
