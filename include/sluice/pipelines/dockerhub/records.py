"""A response of Docker Hub as a record, its raw key, and the reason codes (docs/pipelines.md, dockerhub). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from sluice.core import strict_json
from sluice.core.quarantine import RejectedRecord
from sluice.lake import day_partition

RAW_PREFIX = "raw/dockerhub/"
"""Prefix of all raw objects, which a rebuild lists."""

FIELDS = ("user", "name", "namespace", "star_count", "pull_count", "last_updated")
"""Fields of a response that are used; the others are only stored."""

COUNT_MAX = 2**63 - 1
"""Counts are int64 in the parquet history."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"  # in S3 and DynamoDB keys: no `/`, `#` or `=`, and bounded
_NAME_PATTERN = re.compile(_NAME)
_TIME_PATTERN = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_RAW_KEY_PATTERN = re.compile(
    rf"{RAW_PREFIX}namespace=({_NAME})/name=({_NAME})/year=(\d{{4}})/month=(\d{{2}})/day=(\d{{2}})"
    r"/((\d{4})_(\d{2})_(\d{2})_(\d{2})(\d{2})(\d{2})\.json)",
    re.ASCII,
)


class Reason(StrEnum):
    """Reasons to reject a repository, a response or an object: stable codes for the quarantine."""

    # requests
    NOT_FOUND = "not_found"
    PRIVATE = "private"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    UNEXPECTED_STATUS = "unexpected_status"
    # responses
    NOT_JSON = "not_json"
    REPEATED_FIELD = "repeated_field"
    OUT_OF_RANGE = "out_of_range"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_NAME = "bad_name"
    WRONG_REPOSITORY = "wrong_repository"
    COUNT_OUT_OF_RANGE = "count_out_of_range"
    BAD_LAST_UPDATED = "bad_last_updated"
    FUTURE_LAST_UPDATED = "future_last_updated"
    # aggregating
    BAD_KEY = "bad_key"
    OBJECT_MISSING = "object_missing"


class Repository(NamedTuple):
    """One repository of Docker Hub."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Repository:
        """The repository written as `namespace/name`.

        Raises:
            ValueError: the text is not of that form.
        """
        namespace, _, name = text.partition("/")
        if not _NAME_PATTERN.fullmatch(namespace) or not _NAME_PATTERN.fullmatch(name):
            raise ValueError(f"{text!r} is not a repository: write namespace/name, such as localstack/localstack")
        return cls(namespace, name)


@dataclass(frozen=True)
class Stats:
    """The used fields of one response.

    Attributes:
        user: owner of the repository.
        name: repository without its namespace.
        namespace: user or organization that holds it.
        star_count: stars, 0 to 2**63 - 1.
        pull_count: pulls since it exists, 0 to 2**63 - 1.
        last_updated: time of the last push, as received.
        last_updated_at: the same in UTC; nanoseconds are cut to microseconds.
    """

    user: str
    name: str
    namespace: str
    star_count: int
    pull_count: int
    last_updated: str
    last_updated_at: datetime


class RawKey(NamedTuple):
    """Parsed raw key.

    Attributes:
        namespace: value of its namespace partition.
        name: value of its name partition.
        object_time: time in the file name, UTC, whole seconds.
        file_name: `YYYY_MM_DD_HHMMSS.json`; sorts by time.
        year_month: `YYYY-MM` of the file name, the month that the object counts for.
    """

    namespace: str
    name: str
    object_time: datetime
    file_name: str
    year_month: str


def parse_answer(body: bytes, *, now: datetime, expected: Repository | None = None) -> Stats:
    """Parse the body of a response, or of a raw object.

    Args:
        body: bytes as received.
        now: when it was received (aware); `last_updated` may not be later.
        expected: the requested repository; None to accept any.

    Raises:
        RejectedRecord: with one of the reading reasons of `Reason`.
    """
    return parse_stats(strict_json.parse(body), now=now, expected=expected)


def parse_stats(document: object, *, now: datetime, expected: Repository | None = None) -> Stats:
    """The record in a value of `strict_json.parse`; arguments and errors as for `parse_answer`."""
    if not isinstance(document, dict):
        raise RejectedRecord(Reason.WRONG_TYPE, f"response is {_json_type(document)}, not an object")
    missing = [field for field in FIELDS if field not in document]
    if missing:
        raise RejectedRecord(Reason.MISSING_FIELD, f"response lacks {', '.join(missing)}")
    user, name, namespace = (_checked_name(field, document[field]) for field in ("user", "name", "namespace"))
    if expected and expected != (namespace, name):
        raise RejectedRecord(Reason.WRONG_REPOSITORY, f"requested {expected}, received {namespace}/{name}")
    return Stats(
        user=user,
        name=name,
        namespace=namespace,
        star_count=_checked_count("star_count", document["star_count"]),
        pull_count=_checked_count("pull_count", document["pull_count"]),
        last_updated=document["last_updated"],
        last_updated_at=_checked_last_updated(document["last_updated"], now),
    )


def raw_key(stats: Stats) -> str:
    """Key of the raw object, from `last_updated` only: the same for all pulls between two pushes."""
    pushed = stats.last_updated_at
    return (
        f"{RAW_PREFIX}namespace={stats.namespace}/name={stats.name}/{day_partition(pushed)}"
        f"/{pushed.year:04d}_{pushed:%m_%d_%H%M%S}.json"
    )


def parse_raw_key(key: str) -> RawKey:
    """The parts of a raw key.

    The time is that of the file name. The partitions must be a valid date, but may differ from it.

    Raises:
        RejectedRecord: reason `bad_key`.
    """
    form = f"{RAW_PREFIX}namespace=<ns>/name=<name>/year=YYYY/month=MM/day=DD/YYYY_MM_DD_HHMMSS.json"
    match = _RAW_KEY_PATTERN.fullmatch(key)
    if not match:
        raise RejectedRecord(Reason.BAD_KEY, f"{key!r} is not of the form {form}")
    namespace, name, year, month, day, file_name, *in_name = match.groups()
    try:
        datetime(int(year), int(month), int(day), tzinfo=UTC)
        time_year, time_month, time_day, hour, minute, second = map(int, in_name)
        object_time = datetime(time_year, time_month, time_day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise RejectedRecord(Reason.BAD_KEY, f"{key!r} holds an impossible date: {error}") from None
    return RawKey(namespace, name, object_time, file_name, f"{in_name[0]}-{in_name[1]}")


def _checked_name(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise RejectedRecord(Reason.WRONG_TYPE, f"{field} is {_json_type(value)}, not a string")
    if not _NAME_PATTERN.fullmatch(value):
        raise RejectedRecord(Reason.BAD_NAME, f"{field} {_shortened(value)} is not a valid name of Docker Hub")
    return value


def _checked_count(field: str, number: object) -> int:
    count = strict_json.integral(number) if strict_json.is_number(number) else None
    if count is None:
        raise RejectedRecord(Reason.WRONG_TYPE, f"{field} is {_json_type(number)}, not an integer")
    if not 0 <= count <= COUNT_MAX:
        raise RejectedRecord(Reason.COUNT_OUT_OF_RANGE, f"{field} is not between 0 and {COUNT_MAX}")
    return count


def _checked_last_updated(value: object, now: datetime) -> datetime:
    if value is None:
        raise RejectedRecord(Reason.BAD_LAST_UPDATED, "last_updated is null: no image was ever pushed")
    if not isinstance(value, str):
        raise RejectedRecord(Reason.WRONG_TYPE, f"last_updated is {_json_type(value)}, not a string")
    match = _TIME_PATTERN.fullmatch(value)
    if not match:
        raise RejectedRecord(
            Reason.BAD_LAST_UPDATED, f"last_updated {_shortened(value)} is not like 2023-09-15T15:43:16.123456Z"
        )
    *date_and_time, fraction, sign, offset_hours, offset_minutes = match.groups()
    year, month, day, hour, minute, second = map(int, date_and_time)
    microsecond = int((fraction or "").ljust(6, "0")[:6])
    offset = timedelta(hours=int(offset_hours or 0), minutes=int(offset_minutes or 0))
    zone = timezone(-offset if sign == "-" else offset)
    try:
        moment = datetime(year, month, day, hour, minute, second, microsecond, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RejectedRecord(Reason.BAD_LAST_UPDATED, f"last_updated {value!r} is not a time: {error}") from None
    if moment > now:
        raise RejectedRecord(
            Reason.FUTURE_LAST_UPDATED, f"last_updated {value!r} is later than the response, {now.isoformat()}"
        )
    return moment


def _json_type(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "an integer",
        Decimal: "a number with a fraction",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _shortened(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")
