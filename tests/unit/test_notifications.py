from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.aws.sqs import Message
from sluice.core.notifications import (
    BAD_NOTIFICATION,
    ObjectCreated,
    is_test_event,
    object_keys,
    parse_notification,
)
from sluice.core.quarantine import RejectedRecord

KEY = "raw/dockerhub/namespace=a/name=b/year=2023/month=09/day=14/2023_09_14_150000.json"


def record(key: object = quote_plus(KEY), event: object = "ObjectCreated:Put", bucket: object = "lake") -> Any:
    return {"eventVersion": "2.1", "eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}


def event(*records: Any) -> str:
    return json.dumps({"Records": records})


def wrapped(body: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:::t", "Message": body})


@pytest.mark.parametrize("delivered", [lambda body: body, wrapped], ids=["raw", "wrapped by SNS"])
def test_every_object_of_a_message_is_named_in_order(delivered: Any) -> None:
    body = delivered(event(record("a"), record("b"), record("a")))
    assert parse_notification(body) == [ObjectCreated("lake", key) for key in ("a", "b", "a")]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256))
def test_a_key_is_decoded_as_s3_encodes_it(key: str) -> None:
    assert parse_notification(event(record(quote_plus(key)))) == [ObjectCreated("lake", key)]


def test_a_key_may_have_1024_bytes() -> None:
    assert parse_notification(event(record("%C3%A9" * 512))) == [ObjectCreated("lake", "é" * 512)]


def test_a_key_with_blanks_plus_and_percent_signs_is_decoded_exactly() -> None:
    assert parse_notification(event(record("a+b%2Bc%25d%3De"))) == [ObjectCreated("lake", "a b+c%d=e")]


@pytest.mark.parametrize("delivered", [lambda body: body, wrapped], ids=["raw", "wrapped by SNS"])
def test_the_test_event_of_a_new_notification_names_no_object(delivered: Any) -> None:
    body = delivered(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"}))
    assert parse_notification(body) == []
    assert is_test_event(body)


@pytest.mark.parametrize("body", [event(record("a")), "", "hello", "[]", "{}", wrapped("hello"), "[" * 100_000])
def test_nothing_else_is_taken_for_a_test_event(body: str) -> None:
    assert not is_test_event(body)


@pytest.mark.parametrize("name", ["ObjectCreated:Put", "ObjectCreated:Copy", "s3:ObjectCreated:Post"])
def test_every_way_of_creating_an_object_counts(name: str) -> None:
    assert parse_notification(event(record("k", name))) == [ObjectCreated("lake", "k")]


def test_other_events_are_passed_over() -> None:
    assert parse_notification(event(record("a", "ObjectRemoved:Delete"), record("b"), record("c", "TestEvent"))) == [
        ObjectCreated("lake", "b")
    ]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "[]",
        "null",
        "{}",
        '{"Records": {}}',
        '{"Records": [7]}',
        '{"Records": [{}]}',
        '{"Event": "s3:Other"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5000,
        event({"eventName": "ObjectCreated:Put"}),
        event({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {}}}),
        event({"eventName": "ObjectCreated:Put", "s3": None}),
        event(record(key=7)),
        event(record(bucket=None)),
        event(record(event=None)),
        '{"Event": "s3:TestEvent", "x": 1e1000000000000000000}',
        '{"Event": "s3:TestEvent", "x": NaN}',
        '{"Event": "s3:TestEvent", "Event": "s3:TestEvent"}',
        # What no object has for a key.
        event(record("")),
        event(record("a" * 1025)),
        event(record("%C3%A9" * 513)),
        event(record("%ff")),
        event(record("%ED%A0%80")),
        # Half of a surrogate pair: JSON can spell it, UTF-8 cannot, so no bucket or key has it.
        event(record("half \ud800")),
        event(record(bucket="half \udfff")),
        wrapped("hello"),
        wrapped("[1]"),
        wrapped("[" * 100_000),
        json.dumps({"Type": "Notification", "Message": {"Records": []}}),
    ],
)
def test_a_message_that_is_not_a_notification_is_rejected_without_an_error(body: str) -> None:
    with pytest.raises(RejectedRecord) as rejected:
        parse_notification(body)
    assert rejected.value.reason == BAD_NOTIFICATION
    assert rejected.value.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Records", "Event", "Type", "Message", "eventName", "s3"]), inner)
    ),
    max_leaves=10,
)


@given(st.text() | json_values.map(json.dumps) | json_values.map(json.dumps).map(wrapped))
def test_any_text_is_either_read_or_rejected(body: str) -> None:
    try:
        created = parse_notification(body)
    except RejectedRecord as rejected:
        assert rejected.reason == BAD_NOTIFICATION  # noqa: PT017
    else:
        assert all(isinstance(each, ObjectCreated) for each in created)


def test_a_foreign_object_is_rejected_and_others_in_the_message_are_not() -> None:
    message = Message("one", "", event(record("in/a"), record("elsewhere/b"), record("in/c")), 0)
    first, foreign, last = object_keys("lake", "in/")(message)
    assert (first, last) == ("in/a", "in/c")
    assert isinstance(foreign, RejectedRecord)
    assert foreign.reason == BAD_NOTIFICATION
    assert "s3://lake/elsewhere/b, which is not below s3://lake/in/" in foreign.detail
    assert all(isinstance(each, RejectedRecord) for each in object_keys("another")(message))
