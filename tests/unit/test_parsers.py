"""One bad record among good ones, for every parser of data that others send: it is rejected, and costs no neighbour.

A new parser is one line in `PARSERS`. Records are good ones with each of their values replaced by odd ones, and text
and bytes of any kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import events_data
from sluice.aws.sqs import Message
from sluice.core.notifications import BAD_NOTIFICATION, object_keys, parse_notification
from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.accommodations import records as accommodations
from sluice.pipelines.accommodations import transform as accommodations_transform
from sluice.pipelines.datasets import records as datasets
from sluice.pipelines.datasets.blocks import is_blank
from sluice.pipelines.datasets.transform import aggregate_file
from sluice.pipelines.dockerhub import records as dockerhub
from sluice.pipelines.events import records as events
from sluice.pipelines.modules import records as modules

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DEPTH = 3_000

ODD = [
    "1e1000000000000000000",
    "-1e400",
    "1e-1000000000000000000",
    "0e1000000000000000000",
    "9" * 5000,
    "18446744073709551616.0",
    "12.0",
    "1.7e9",
    "12.5",
    "-1",
    "-0.0",
    "01",
    "NaN",
    "-Infinity",
    "-inf",
    "true",
    "null",
    "",
    '""',
    '" "',
    '"12"',
    '"\\ud800"',
    '"\\u0000"',
    '"\x07"',
    '"\\x"',
    '"%ff%ED%A0%80"',
    '"a/../b"',
    '"0000-00-00T00:00:00Z"',
    '"9999-12-31T23:59:59-23:59"',
    '"' + "é" * 3000 + '"',
    "'a'",
    "[]",
    "[1,]",
    "{}",
    '{"a":1,"a":2}',
    '{"":[null,{"A":1e400}]}',
    "[" * DEPTH + "]" * DEPTH,
    '{"a":' * DEPTH + "1" + "}" * DEPTH,
    "[" * DEPTH,
]
"""JSON values, and what is nearly one, in place of a value."""

Read = Callable[[Sequence[bytes]], list[str | None]]
"""Records of one batch, in their order -> the reason for which each was rejected, None for a good one."""


class Parser(NamedTuple):
    """What is read, by what, and what is read in place of it."""

    name: str
    good: Callable[[int], bytes]
    read: Read
    reasons: frozenset[str]
    odd: Callable[[bytes], Iterator[bytes]]


def odd_json(good: bytes) -> Iterator[bytes]:
    """A JSON object with an odd value in each place, with one more field, and in an odd form."""
    document = json.loads(good)
    for place in _places(document):
        for odd in ODD:
            yield _replaced(document, place, odd)
    text = good.decode()
    for odd in ODD:
        yield f'{{"odd":{odd},{text[1:]}'.encode()
        yield odd.encode()
    for name in document:
        yield json.dumps({field: value for field, value in document.items() if field != name}).encode()
        yield f"{text[:-1]},{json.dumps(name)}:1}}".encode()
        yield f"{text[:-1]},{json.dumps(name.upper())}:null}}".encode()
    yield from (good[:end] for end in range(0, len(good), 7))
    yield from (text.encode(name) for name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"))
    yield from (good + each for each in (b",", b"{}", b"\0", b"\xff", b" \r", b"//"))
    yield from (f"[{text}]".encode(), text.replace('"', "'").encode(), text.replace(",", ",,").encode())
    yield from (b" \t" + good, b"\0" + good, b"\xc2\xa0" + good, json.dumps(text).encode())


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _places(value[key], (*place, key))


def _replaced(document: Any, place: Sequence[Any], odd: str) -> bytes:
    changed = json.loads(json.dumps(document))
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = "\x01odd"
    return json.dumps(changed).replace('"\\u0001odd"', odd).encode()


def is_json(document: bytes) -> bool:
    def reject(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(document.decode("utf-8-sig"), parse_constant=reject, parse_int=str)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def odd_key(good: bytes) -> Iterator[bytes]:
    """A key with a part replaced, cut off, or repeated."""
    parts = good.split(b"/")
    for index in range(len(parts)):
        for odd in (b"", b"..", b"a=b", b"month=13", b"day=00", b"year=0000", b"\xff", b"x" * 2000, b"\n", b"\0"):
            yield b"/".join([*parts[:index], odd, *parts[index + 1 :]])
    yield from (good[:end] for end in range(len(good)))
    yield from (good.replace(b"2023", each) for each in (b"0000", b"9999", "２０２３".encode()))
    yield good + b"/" + good


def odd_row(good: bytes) -> Iterator[bytes]:
    """A row of CSV with an odd value in each column, and with more or fewer of them."""
    fields = good.split(b",")
    for index in range(len(fields)):
        for odd in ODD:
            if '"' not in odd:
                yield b",".join([*fields[:index], odd.encode(), *fields[index + 1 :]])
        for text in (b'"12"', b'""', b"\xff", b"\0", b"\xef\xbb\xbf", b"inf", b"1_000", b"0x1F", "１２".encode()):
            yield b",".join([*fields[:index], text, *fields[index + 1 :]])
    yield from (b",".join(fields[:count]) for count in range(len(fields)))
    yield good + b","


def one_by_one(parse: Callable[[bytes], object]) -> Read:
    def read(documents: Sequence[bytes]) -> list[str | None]:
        return [_reason(parse, document) for document in documents]

    return read


def _reason(parse: Callable[[bytes], object], document: bytes) -> str | None:
    try:
        parse(document)
    except RejectedRecord as rejected:
        str(rejected).encode()  # goes to the log and to the quarantine
        return rejected.reason
    return None


def body(document: bytes) -> str:
    """A message of SQS, which is text."""
    return document.decode("utf-8", "replace")


def in_envelope(message: str) -> str:
    return json.dumps({"Type": "Notification", "Message": message, "Timestamp": "2024-04-07T17:42:01.250Z"})


def check_message(document: bytes) -> None:
    module_id, timestamp = modules.parse_message(body(document))
    assert 0 < len(module_id.encode()) <= 2048
    assert type(timestamp) is int
    assert 0 <= timestamp < 2**64


def check_diagnostic(document: bytes) -> None:
    found = modules.parse_diagnostic(body(document), 1_712_511_721_000)
    assert type(found.attempts) is int
    assert 0 <= found.attempts < 2**32
    assert len(found.version) == 38, "versions are compared as text"


def check_answer(document: bytes) -> None:
    stats = dockerhub.parse_answer(document, now=NOW)
    assert dockerhub.parse_raw_key(dockerhub.raw_key(stats)).namespace == stats.namespace
    assert 0 <= min(stats.star_count, stats.pull_count) <= max(stats.star_count, stats.pull_count) < 2**63


def check_notification(document: bytes) -> None:
    for created in parse_notification(body(document)):
        assert 1 <= len(created.key.encode()) <= 1024
        created.bucket.encode()


def read_announced(documents: Sequence[bytes]) -> list[str | None]:
    return [announced_reason(Message("", "", body(document), 0)) for document in documents]


def announced_reason(message: Message) -> str | None:
    try:
        found = object_keys("lake", "raw/")(message)
    except RejectedRecord as rejected:
        return rejected.reason
    return next((each.reason for each in found if isinstance(each, RejectedRecord)), None)


def read_events(documents: Sequence[bytes]) -> list[str | None]:
    batch = events_data.envelopes(events.record_text(document) for document in documents)
    with TemporaryDirectory() as folder:
        result = events_data.transformed(Path(folder), batch)
        good = [(row["sequence_number"], None) for row in events_data.rows(each.path for each in result.files)]
        bad = [(row["sequence_number"], row["reason"]) for row in events_data.rejections(result)]
    found = dict([*good, *bad])
    assert len(found) == len(good) + len(bad) == len(batch)
    return [found[each.sequence_number] for each in batch]


def read_lines(documents: Sequence[bytes]) -> list[str | None]:
    """Lines of a partner's file."""
    file = accommodations.PartnerFile("landing", "accommodations/a.jsonl", "null", NOW, 1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").write_bytes(b"".join(each.replace(b"\n", b" ") + b"\n" for each in documents))
        with accommodations_transform.consolidation(folder, 256) as connection:
            _, flaws = accommodations_transform.read_files(connection, folder, {0: (file, folder / "in")})
            assert not flaws
            found = dict(connection.execute("SELECT record_id, reason FROM validated").fetchall())
    return [found.get(number, "blank") for number in range(len(documents))]


def read_rows(documents: Sequence[bytes]) -> list[str | None]:
    """Rows of a CSV file."""
    header = ",".join(datasets.COLUMNS).encode()
    lines = [each.replace(b"\n", b" ").replace(b"\r", b" ") for each in documents]
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.csv").write_bytes(b"\n".join([header, *lines]))
        result = aggregate_file(folder / "in.csv", "in.csv", folder / "out", memory_limit_mb=256)
        rejected = result.rejected_path.read_text().split("\n")[:-1] if result.rejected_path else []
    rows = [json.loads(each) for each in rejected]
    found = {int(row["source"].rpartition(" ")[2]) - 2: row["reason"] for row in rows}
    blank = [number for number, each in enumerate(lines) if is_blank(each)]
    assert result.records_in == len(documents) - len(set(blank) - found.keys())
    return [found.get(number) for number in range(len(documents))]


def dumped(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def good_diagnostic(number: int) -> bytes:
    return dumped(moduleId=f"m-{number}", timestamp=number, attempts=number)


def good_notification(number: int) -> bytes:
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "lake"}, "object": {"key": f"raw/{number}"}}}
    return dumped(Records=[record])


def good_answer(number: int) -> bytes:
    names = {"user": "a", "name": f"b{number}", "namespace": "c"}
    return dumped(**names, star_count=number, pull_count=number, last_updated="2023-09-14T15:00:00.5Z")


def good_accommodation(number: int) -> bytes:
    data = {"accommodation_name": "é", "accommodation_geocodes": [1.10, 2]}
    return dumped(partner_name="A", accommodation_id=str(number), accommodation_data=data)


NOTIFICATION = frozenset({BAD_NOTIFICATION})
PARSERS = [
    Parser(
        "message",
        lambda number: dumped(moduleId=f"m-{number}", timestamp=number),
        one_by_one(check_message),
        frozenset(modules.Reason),
        odd_json,
    ),
    Parser("diagnostic", good_diagnostic, one_by_one(check_diagnostic), frozenset(modules.Reason), odd_json),
    Parser(
        "diagnostic in an envelope of SNS",
        good_diagnostic,
        one_by_one(lambda document: check_diagnostic(in_envelope(body(document)).encode())),
        frozenset(modules.Reason),
        odd_json,
    ),
    Parser(
        "envelope of SNS",
        lambda number: in_envelope(good_diagnostic(number).decode()).encode(),
        one_by_one(check_diagnostic),
        frozenset(modules.Reason),
        odd_json,
    ),
    Parser("notification of S3", good_notification, one_by_one(check_notification), NOTIFICATION, odd_json),
    Parser(
        "notification of S3 in an envelope of SNS",
        lambda number: in_envelope(good_notification(number).decode()).encode(),
        read_announced,
        NOTIFICATION,
        odd_json,
    ),
    Parser("objects of a queue", good_notification, read_announced, NOTIFICATION, odd_json),
    Parser("answer of Docker Hub", good_answer, one_by_one(check_answer), frozenset(dockerhub.Reason), odd_json),
    Parser(
        "raw key",
        lambda number: (
            f"raw/dockerhub/namespace=a/name=b{number}/year=2023/month=09/day=14/2023_09_14_150000.json".encode()
        ),
        one_by_one(lambda document: dockerhub.parse_raw_key(document.decode("utf-8", "surrogateescape"))),
        frozenset({dockerhub.Reason.BAD_KEY}),
        odd_key,
    ),
    Parser("event", lambda number: events_data.event(number).encode(), read_events, frozenset(events.Reason), odd_json),
    Parser(
        "line of a partner",
        good_accommodation,
        read_lines,
        frozenset({*accommodations.Reason, "blank"}),
        odd_json,
    ),
    Parser(
        "row of a dataset",
        lambda number: f"{number},c,{number % 1000},0.5,1.5,f,dp-{number % 7},1".encode(),
        read_rows,
        frozenset(datasets.Reason),
        odd_row,
    ),
]

by_parser = pytest.mark.parametrize("parser", PARSERS, ids=[parser.name for parser in PARSERS])


def check_batch(parser: Parser, odd: Sequence[bytes]) -> list[str | None]:
    """Read odd records with good ones among them; the verdicts on the odd ones."""
    documents: list[bytes] = []
    is_good: list[bool] = []
    for number, document in enumerate([*odd, b""]):
        if number % 10 == 0:
            documents.append(parser.good(number))
            is_good.append(True)
        documents.append(document)
        is_good.append(False)
    verdicts = parser.read(documents)
    neighbours = [verdict for verdict, good in zip(verdicts, is_good, strict=True) if good]
    assert neighbours == [None] * len(neighbours), "a good record was lost"
    verdicts = [verdict for verdict, good in zip(verdicts, is_good, strict=True) if not good]
    assert {verdict for verdict in verdicts if verdict} <= parser.reasons
    return verdicts[:-1]


@by_parser
def test_a_record_with_an_odd_value_anywhere_is_rejected_alone(parser: Parser) -> None:
    odd = list(parser.odd(parser.good(1)))
    verdicts = check_batch(parser, odd)
    assert len({verdict for verdict in verdicts if verdict}) >= min(len(parser.reasons), 2)
    if parser.odd is odd_json:
        taken = [document for document, verdict in zip(odd, verdicts, strict=True) if verdict is None]
        assert [document for document in taken if not is_json(document)] == []
    backwards = check_batch(parser, odd[::-1])
    assert backwards[::-1] == verdicts, "a verdict depends on what is read beside it"


anything = st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["a", "Records"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Type", "Message", "Records", "s3", "user", "event_uuid", "a"]), inner)
    ),
    max_leaves=6,
)


@by_parser
def test_a_record_with_any_content_is_rejected_alone(parser: Parser) -> None:
    @settings(max_examples=3, database=None)
    @given(st.lists(anything | json_values.map(json.dumps).map(str.encode), min_size=15, max_size=25))
    def check(odd: list[bytes]) -> None:
        check_batch(parser, odd)

    check()
