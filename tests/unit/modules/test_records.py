from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.modules.records import ATTEMPTS_MAX, TIMESTAMP_MAX, MessageKey, parse_diagnostic, parse_message

GOOD = {"moduleId": "a", "timestamp": 5}


def envelope(message: str, timestamp: str = "2024-04-07T17:42:01.250Z") -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "arn", "Message": message, "Timestamp": timestamp})


def reason_of(body: str, attempts: bool = False) -> str:
    with pytest.raises(RejectedRecord) as raised:
        parse_diagnostic(body, 0) if attempts else parse_message(body)
    return raised.value.reason


@pytest.mark.parametrize("spelling", ["moduleId", "moduleid"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "raw"])
def test_either_spelling_raw_or_wrapped_and_unknown_fields_are_passed_over(spelling: str, wrapped: bool) -> None:
    body = json.dumps({spelling: "a", "timestamp": 5, "battery": 0.7, "Type": "Notification", "more": {"x": [1]}})
    assert parse_message(envelope(body) if wrapped else body) == MessageKey("a", 5)


@given(timestamp=st.integers(0, TIMESTAMP_MAX), attempts=st.integers(0, ATTEMPTS_MAX))
def test_integers_come_out_as_they_went_in(timestamp: int, attempts: int) -> None:
    body = json.dumps({"moduleId": "a", "timestamp": timestamp, "attempts": attempts})
    parsed = parse_diagnostic(body, 0)
    assert (parsed.timestamp, parsed.attempts) == (timestamp, attempts)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-1", "out_of_range"),
        (str(TIMESTAMP_MAX + 1), "out_of_range"),
        ("9" * 5000, "out_of_range"),
        ("-" + "9" * 5000, "out_of_range"),
        ("18446744073709551616.0", "out_of_range"),
        ("1e20", "out_of_range"),
        ("1e1000000000000000000", "out_of_range"),
        ("1.5", "not_integer"),
        ("18446744073709551615.5", "not_integer"),
        ("1e-1", "not_integer"),
        ('"5"', "wrong_type"),
        ("true", "wrong_type"),
        ("null", "wrong_type"),
        ("[5]", "wrong_type"),
        ("NaN", "not_json"),
        ("Infinity", "not_json"),
        ("05", "not_json"),
    ],
)
def test_a_timestamp_that_is_no_uint64_is_rejected(value: str, reason: str) -> None:
    assert reason_of(f'{{"moduleId": "a", "timestamp": {value}}}') == reason


@pytest.mark.parametrize("number", ["18446744073709551615.0", "1.8446744073709551615e19", "184467440737095516150e-1"])
def test_an_integral_timestamp_is_exact_however_it_is_spelled(number: str) -> None:
    assert parse_message(f'{{"moduleId": "a", "timestamp": {number}}}') == MessageKey("a", TIMESTAMP_MAX)


def test_attempts_may_be_spelled_as_floats() -> None:
    body = '{"moduleId": "a", "timestamp": 1.7e9, "attempts": 12.0}'
    assert parse_diagnostic(body, 0)[:3] == ("a", 1_700_000_000, 12)


HUGE = ["1e1000000000000000000", "-1e400", "1e-1000000000000000000", "9" * 5000]


@pytest.mark.parametrize("number", HUGE, ids=lambda number: number[:9])
@pytest.mark.parametrize(
    "body",
    [
        '{{"moduleId": "a", "timestamp": 5, "attempts": 1, "x": {}}}',
        '{{"moduleId": "a", "timestamp": 5, "attempts": 1, "x": {{"y": [{}]}}}}',
        '{{"moduleId": {}, "timestamp": 5, "attempts": 1}}',
        '{{"moduleId": "a", "timestamp": {}, "attempts": 1}}',
        '{{"moduleId": "a", "timestamp": 5, "attempts": {}}}',
        '{{"Type": {}, "moduleId": "a", "timestamp": 5, "attempts": 1}}',
    ],
)
def test_a_number_that_no_reader_can_hold_rejects_its_message_alone(body: str, number: str) -> None:
    for sent in (body.format(number), envelope(body.format(number))):
        assert reason_of(sent) == reason_of(sent, attempts=True) == "out_of_range"


@pytest.mark.parametrize("field", ["Timestamp", "Type", "SignatureVersion"])
def test_a_number_out_of_range_in_an_envelope_rejects_only_its_message(field: str) -> None:
    members = {"Type": '"Notification"', "Message": json.dumps(json.dumps(GOOD)), field: HUGE[0]}
    assert reason_of("{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}") == "out_of_range"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-1", "out_of_range"),
        (str(ATTEMPTS_MAX + 1), "out_of_range"),
        ("1.5", "not_integer"),
        ('"1"', "wrong_type"),
        ("false", "wrong_type"),
    ],
)
def test_attempts_that_are_no_uint32_are_rejected(value: str, reason: str) -> None:
    assert reason_of(f'{{"moduleId": "a", "timestamp": 5, "attempts": {value}}}', attempts=True) == reason


@pytest.mark.parametrize(
    ("module_id", "reason"),
    [
        ("", "bad_module_id"),
        (" \t", "bad_module_id"),
        ("m" * 5000, "bad_module_id"),
        ("ü" * 1025, "bad_module_id"),
        ("a\x00b", "bad_module_id"),
        ("a\nb", "bad_module_id"),
        ("a\x85b", "bad_module_id"),
        ("a\ud800", "bad_module_id"),
        (7, "wrong_type"),
        (None, "wrong_type"),
    ],
)
def test_a_module_id_that_can_be_no_key_is_rejected(module_id: Any, reason: str) -> None:
    assert reason_of(json.dumps({"moduleId": module_id, "timestamp": 5})) == reason


@pytest.mark.parametrize("module_id", ["m" * 2048, "ü" * 1024, "a b", "模块", "🛰"])
def test_a_module_id_of_any_script_up_to_2048_bytes_is_one(module_id: str) -> None:
    assert parse_message(json.dumps({"moduleId": module_id, "timestamp": 5})).module_id == module_id


def test_both_spellings_must_agree() -> None:
    assert parse_message('{"moduleId": "a", "moduleid": "a", "timestamp": 5}') == MessageKey("a", 5)
    assert reason_of('{"moduleId": "a", "moduleid": "b", "timestamp": 5}') == "conflicting_spellings"
    assert reason_of('{"moduleId": "a", "moduleid": null, "timestamp": 5}') == "conflicting_spellings"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not_json"),
        ("not json", "not_json"),
        ('{"moduleId": "a", "timestamp": 5', "not_json"),
        ("[" * 100_000, "not_json"),
        ("null", "not_object"),
        ('[{"moduleId": "a", "timestamp": 5}]', "not_object"),
        ('{"moduleId": "a", "moduleId": "b", "timestamp": 5}', "repeated_field"),
        ('{"moduleId": "a", "timestamp": 5, "timestamp": 6}', "repeated_field"),
        ('{"timestamp": 5}', "missing_field"),
        ('{"moduleID": "a", "timestamp": 5}', "missing_field"),
        ('{"moduleId": "a"}', "missing_field"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "raw"])
def test_what_is_no_message_is_rejected_with_its_reason(body: str, reason: str, wrapped: bool) -> None:
    assert reason_of(envelope(body) if wrapped else body) == reason


def test_a_diagnostic_without_attempts_is_rejected() -> None:
    assert reason_of(json.dumps(GOOD), attempts=True) == "missing_field"


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    for body in (text, envelope(text)):
        reason_of(body)


def version(attempts: int, sent_at_ms: int, published: str | None = None) -> str:
    body = json.dumps(GOOD | {"attempts": attempts})
    return parse_diagnostic(envelope(body, published) if published else body, sent_at_ms).version


def test_the_later_sent_diagnostic_of_a_key_is_newer_for_any_attempts() -> None:
    assert version(9, 1_700_000_000_000) < version(5, 1_700_000_000_001)
    assert version(5, 1_700_000_000_000) < version(9, 1_700_000_000_000)


def test_a_diagnostic_that_was_sent_to_the_queue_again_keeps_its_age() -> None:
    first, correction = "2024-04-07T17:42:01.250Z", "2024-04-07T17:42:01.251Z"
    assert version(9, 1_800_000_000_000, first) < version(5, 1_712_511_721_251, correction)


@pytest.mark.parametrize("published", ["yesterday", "1969-12-31T23:59:59Z", "0001-01-01", "9999-12-31T23:59:59Z"])
def test_an_envelope_without_a_time_that_sorts_counts_from_the_queue(published: str) -> None:
    assert version(5, 1_712_511_721_251, published) == version(5, 1_712_511_721_251)


def test_the_time_of_an_envelope_that_names_no_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert version(5, 1, "2024-04-07T17:42:01.250") == version(5, 1, "2024-04-07T17:42:01.250Z")
    finally:
        monkeypatch.undo()
        time.tzset()
