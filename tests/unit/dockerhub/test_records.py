from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.dockerhub.records import (
    COUNT_MAX,
    FIELDS,
    RAW_PREFIX,
    Reason,
    Repository,
    Stats,
    parse_answer,
    parse_raw_key,
    parse_stats,
    raw_key,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOCALSTACK = Repository("localstack", "localstack")
ANSWER = {
    "user": "localstack",
    "name": "localstack",
    "namespace": "localstack",
    "star_count": 198,
    "pull_count": 178900000,
    "last_updated": "2023-09-14T15:00:00.123456Z",
}
KEY = "raw/dockerhub/namespace=localstack/name=localstack/year=2023/month=09/day=14/2023_09_14_150000.json"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
nearly_good_answers = st.fixed_dictionaries(
    {}, optional={field: st.just(good) | json_values for field, good in ANSWER.items()}
)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,30}", fullmatch=True)
moments = st.datetimes(timezones=st.just(UTC))


def parsed(**changes: Any) -> Stats:
    return parse_stats(ANSWER | changes, now=NOW, expected=LOCALSTACK)


def reason_of(**changes: Any) -> str:
    with pytest.raises(RejectedRecord) as rejected:
        parsed(**changes)
    assert rejected.value.detail
    return rejected.value.reason


def test_a_response_becomes_a_record_and_unused_fields_are_ignored() -> None:
    body = json.dumps(ANSWER | {"status": 1, "full_description": "# é \ud800", "permissions": {"read": True}}).encode()
    assert parse_answer(body, now=NOW, expected=LOCALSTACK) == Stats(
        user="localstack",
        name="localstack",
        namespace="localstack",
        star_count=198,
        pull_count=178900000,
        last_updated="2023-09-14T15:00:00.123456Z",
        last_updated_at=datetime(2023, 9, 14, 15, 0, 0, 123456, UTC),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>502</title>",
        b'{"user": "localstack", ',
        b"\xff\xfe\x00",
        json.dumps(ANSWER).encode("utf-16"),
        b'{"star_count": NaN}',
        b'{"star_count": 1,}',
        b"[" * 200_000,
    ],
    ids=["empty", "html", "cut off", "no text", "utf-16", "NaN", "trailing comma", "endlessly nested"],
)
def test_a_body_that_is_not_json_is_rejected_as_not_json(body: bytes) -> None:
    with pytest.raises(RejectedRecord) as rejected:
        parse_answer(body, now=NOW)
    assert rejected.value.reason == Reason.NOT_JSON


@pytest.mark.parametrize("field", ["status", "star_count", "last_updated"])
@pytest.mark.parametrize("number", ["1e1000000000000000000", "1e400", "9" * 5000], ids=lambda number: number[:9])
def test_a_number_that_no_reader_can_hold_rejects_the_answer(field: str, number: str) -> None:
    body = json.dumps(ANSWER | {field: "number"}).replace('"number"', number)
    with pytest.raises(RejectedRecord) as rejected:
        parse_answer(body.encode(), now=NOW)
    assert rejected.value.reason == Reason.OUT_OF_RANGE


def test_counts_are_exact_however_they_are_spelled() -> None:
    body = json.dumps(ANSWER | {"star_count": "stars", "pull_count": "pulls"})
    body = body.replace('"stars"', "12.0").replace('"pulls"', "9.223372036854775807e18")
    stats = parse_answer(body.encode(), now=NOW)
    assert (stats.star_count, stats.pull_count) == (12, COUNT_MAX)


def test_an_answer_that_names_a_field_twice_is_rejected() -> None:
    body = json.dumps(ANSWER).removesuffix("}") + ', "pull_count": 1}'
    with pytest.raises(RejectedRecord) as rejected:
        parse_answer(body.encode(), now=NOW)
    assert rejected.value.reason == Reason.REPEATED_FIELD


def test_a_byte_order_mark_before_a_good_answer_does_not_lose_it() -> None:
    assert parse_answer(b"\xef\xbb\xbf" + json.dumps(ANSWER).encode(), now=NOW).star_count == 198


@pytest.mark.parametrize("document", [None, True, 3, 2.5, "text", [ANSWER]])
def test_json_that_is_no_object_is_rejected_as_wrong_type(document: object) -> None:
    with pytest.raises(RejectedRecord) as rejected:
        parse_stats(document, now=NOW)
    assert rejected.value.reason == Reason.WRONG_TYPE


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(field: str) -> None:
    document = {name: value for name, value in ANSWER.items() if name != field}
    with pytest.raises(RejectedRecord, match=f"lacks {field}") as rejected:
        parse_stats(document, now=NOW)
    assert rejected.value.reason == Reason.MISSING_FIELD


@pytest.mark.parametrize("field", ["user", "name", "namespace"])
@pytest.mark.parametrize("value", [None, 7, True, ["localstack"]])
def test_a_name_of_another_type_is_rejected(field: str, value: object) -> None:
    assert reason_of(**{field: value}) == Reason.WRONG_TYPE


@pytest.mark.parametrize("field", ["user", "name", "namespace"])
@pytest.mark.parametrize("value", ["", " ", "a/b", "a#name#b", "a=b", "a\n", "\ud800", "é", "..", "x" * 256])
def test_a_name_that_would_break_a_key_of_s3_or_dynamodb_is_rejected(field: str, value: str) -> None:
    assert reason_of(**{field: value}) == Reason.BAD_NAME


@pytest.mark.parametrize("changes", [{"name": "another"}, {"namespace": "another"}])
def test_an_answer_about_another_repository_is_rejected(changes: dict[str, str]) -> None:
    assert reason_of(**changes) == Reason.WRONG_REPOSITORY
    assert parse_stats(ANSWER | changes, now=NOW), "without an expected repository the answer decides"


@pytest.mark.parametrize("field", ["star_count", "pull_count"])
@pytest.mark.parametrize("value", [None, True, False, Decimal("198.5"), "198", [198]])
def test_a_count_that_is_no_integer_is_rejected(field: str, value: object) -> None:
    assert reason_of(**{field: value}) == Reason.WRONG_TYPE


@pytest.mark.parametrize("field", ["star_count", "pull_count"])
def test_counts_from_zero_to_the_largest_int64_are_kept_and_no_others(field: str) -> None:
    assert [getattr(parsed(**{field: count}), field) for count in (0, COUNT_MAX)] == [0, COUNT_MAX]
    assert reason_of(**{field: -1}) == reason_of(**{field: COUNT_MAX + 1}) == Reason.COUNT_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("last_updated", "moment"),
    [
        ("2023-09-15T15:43:16Z", datetime(2023, 9, 15, 15, 43, 16, 0, UTC)),
        ("2023-09-15T15:43:16.5Z", datetime(2023, 9, 15, 15, 43, 16, 500000, UTC)),
        ("2023-09-15T15:43:16.758489Z", datetime(2023, 9, 15, 15, 43, 16, 758489, UTC)),
        ("2023-09-15T15:43:16.999999999Z", datetime(2023, 9, 15, 15, 43, 16, 999999, UTC)),
        ("2023-09-15T15:43:16+00:00", datetime(2023, 9, 15, 15, 43, 16, 0, UTC)),
        ("2023-10-01T01:30:00.25+05:30", datetime(2023, 9, 30, 20, 0, 0, 250000, UTC)),
        ("2023-12-31T23:00:00-02:00", datetime(2024, 1, 1, 1, 0, 0, 0, UTC)),
    ],
)
def test_last_updated_is_read_with_or_without_fraction_and_in_any_zone(last_updated: str, moment: datetime) -> None:
    stats = parsed(last_updated=last_updated)
    assert (stats.last_updated, stats.last_updated_at) == (last_updated, moment)


@pytest.mark.parametrize(
    "last_updated",
    [
        None,
        "",
        "yesterday",
        "2023-09-15",
        "2023-09-15 15:43:16Z",
        "2023-09-15T15:43:16",
        "2023-09-15T15:43:16.Z",
        "2023-09-15T15:43:16.1234567890Z",
        "2023-13-15T15:43:16Z",
        "2023-02-29T15:43:16Z",
        "2023-09-15T24:00:00Z",
        "2023-09-15T15:43:60Z",
        "0001-01-01T00:00:00+01:00",
        "2023-09-15T15:43:16Z\n",
        "２０２３-09-15T15:43:16Z",
    ],
)
def test_a_last_updated_that_is_no_time_is_rejected(last_updated: object) -> None:
    assert reason_of(last_updated=last_updated) == Reason.BAD_LAST_UPDATED


def test_a_last_updated_that_is_a_number_is_rejected_as_wrong_type() -> None:
    assert reason_of(last_updated=1694792596) == Reason.WRONG_TYPE


def test_only_a_push_later_than_the_response_is_rejected() -> None:
    assert parsed(last_updated="2026-11-21T12:00:00Z").last_updated_at == NOW
    assert reason_of(last_updated="2026-11-21T12:00:00.000001Z") == Reason.FUTURE_LAST_UPDATED
    assert reason_of(last_updated="2026-11-21T11:30:00-01:00") == Reason.FUTURE_LAST_UPDATED


@given(json_values | nearly_good_answers)
@example({**ANSWER, "last_updated": "2023-09-15T15:43:16+23:59"})
@example({**ANSWER, "last_updated": "9999-12-31T23:59:59-23:59"})
def test_any_json_value_is_a_record_with_a_key_or_rejected_with_a_reason(document: object) -> None:
    try:
        stats = parse_stats(document, now=NOW)
    except RejectedRecord as rejected:
        assert rejected.reason in set(Reason)  # noqa: PT017
        str(rejected).encode()  # goes to the quarantine as UTF-8
    else:
        assert parse_raw_key(raw_key(stats)).name == stats.name


@given(st.binary())
def test_any_bytes_are_either_a_record_or_rejected_with_a_known_reason(body: bytes) -> None:
    with pytest.raises(RejectedRecord) as rejected:
        parse_answer(body, now=NOW)
    assert rejected.value.reason in set(Reason)


def test_the_raw_key_is_that_of_the_contract() -> None:
    assert raw_key(parsed()) == KEY
    assert raw_key(parsed(last_updated="2023-09-14T15:00:00Z")) == KEY, "pulls between two pushes share one key"


@given(namespace=names, name=names, moment=moments)
def test_a_raw_key_read_back_gives_what_it_was_made_from(namespace: str, name: str, moment: datetime) -> None:
    stats = Stats("owner", name, namespace, 1, 2, moment.isoformat(), moment)
    key = raw_key(stats)
    raw = parse_raw_key(key)
    assert (raw.namespace, raw.name, raw.object_time) == (namespace, name, moment.replace(microsecond=0))
    assert key.endswith(f"/{raw.file_name}")
    assert raw.year_month == f"{moment.year:04d}-{moment.month:02d}"


@given(moments, moments)
def test_file_names_sort_as_the_times_they_stand_for(one: datetime, other: datetime) -> None:
    first, second = (parse_raw_key(raw_key(Stats("u", "n", "s", 1, 2, "", moment))) for moment in (one, other))
    assert (first.file_name < second.file_name) == (first.object_time < second.object_time)


def test_the_file_name_decides_the_month_where_the_partitions_say_another() -> None:
    key = f"{RAW_PREFIX}namespace=a/name=b/year=2023/month=10/day=01/2023_09_30_235959.json"
    assert parse_raw_key(key).year_month == "2023-09"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "raw/dockerhub/",
        "raw/events/" + KEY.removeprefix(RAW_PREFIX),
        "x" + KEY,
        KEY + "\n",
        KEY + ".gz",
        KEY.replace("month=09", "month=9"),
        KEY.replace("month=09", "month=13"),
        KEY.replace("day=14", "day=31"),
        KEY.replace("year=2023/", ""),
        KEY.replace("2023_09_14_150000", "2023_13_14_150000"),
        KEY.replace("2023_09_14_150000", "2023_02_29_150000"),
        KEY.replace("2023_09_14_150000", "2023_09_14_240000"),
        KEY.replace("2023_09_14_150000", "2023_09_14_1500"),
        KEY.replace("2023_09_14_150000", "0000_09_14_150000"),
        KEY.replace("namespace=localstack", "namespace="),
        KEY.replace("name=localstack/year", "name=a/b/year"),
        KEY.replace("=2023/", "=２０２３/"),
    ],
)
def test_a_key_that_is_no_raw_key_is_rejected_as_bad_key(key: str) -> None:
    with pytest.raises(RejectedRecord) as rejected:
        parse_raw_key(key)
    assert rejected.value.reason == Reason.BAD_KEY


@given(st.text() | st.text().map(lambda part: KEY.replace("14", part)))
def test_any_key_is_either_read_or_rejected_as_bad_key(key: str) -> None:
    try:
        parse_raw_key(key)
    except RejectedRecord as rejected:
        assert rejected.reason == Reason.BAD_KEY  # noqa: PT017


def test_a_repository_is_written_as_namespace_and_name() -> None:
    assert Repository.parse("library/redis") == ("library", "redis")
    assert str(Repository("library", "redis")) == "library/redis"


@pytest.mark.parametrize("text", ["", "redis", "library/", "/redis", "a/b/c", "library/../redis", "a b/c"])
def test_what_is_no_repository_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="write namespace/name"):
        Repository.parse(text)


def test_a_push_a_day_later_has_a_key_of_its_own() -> None:
    stats = parsed()
    later = stats.last_updated_at + timedelta(days=1)
    assert raw_key(Stats("u", stats.name, stats.namespace, 1, 2, "", later)) != raw_key(stats)
