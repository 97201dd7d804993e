"""Plain values and type tags; and unprocessed items of DynamoDB, which are simulated here as the emulator has none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.aws import dynamodb
from sluice.aws.dynamodb import from_attributes, to_attributes

NUMBERS = st.integers(-(10**38) + 1, 10**38 - 1) | st.decimals(allow_nan=False, allow_infinity=False, places=6).filter(
    lambda number: len(number.as_tuple().digits) <= 38 and number.adjusted() < 30
)
SETS = st.sets(st.text(), min_size=1) | st.sets(st.integers(-9, 9), min_size=1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.text() | NUMBERS | SETS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_an_item_comes_back_as_it_was_written(item: dict[str, Any]) -> None:
    assert from_attributes(to_attributes(item)) == item


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        ("a", {"S": "a"}),
        (2**64 - 1, {"N": "18446744073709551615"}),
        (Decimal("33.333333333333336"), {"N": "33.333333333333336"}),
        (Decimal("1.500"), {"N": "1.500"}),
        (True, {"BOOL": True}),
        (None, {"NULL": True}),
        ({"a"}, {"SS": ["a"]}),
        ([1, "a"], {"L": [{"N": "1"}, {"S": "a"}]}),
        ({"a": {"b": 1}}, {"M": {"a": {"M": {"b": {"N": "1"}}}}}),
    ],
)
def test_a_value_has_the_tag_that_items_in_tables_have(value: Any, attribute: dict[str, Any]) -> None:
    assert to_attributes({"name": value}) == {"name": attribute}


def test_integers_come_back_as_int_and_no_digit_is_lost() -> None:
    found = from_attributes({name: {"N": name} for name in ("7", "18446744073709551615", "0.1", "100.0", "1E+3")})
    assert [type(each) for each in found.values()] == [int, int, Decimal, Decimal, Decimal]
    assert [str(each) for each in found.values()] == list(found)
    with pytest.raises(TypeError, match="Float"):
        to_attributes({"rate": 0.1})


class Table:
    """Does only a part of each batch, and refuses two items of one key, as DynamoDB does."""

    def __init__(self, leaves: int, items: dict[str, Any] | None = None) -> None:
        self.leaves = leaves
        self.items = items or {}
        self.sizes: list[int] = []

    def batch_write_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        ((name, requests),) = RequestItems.items()
        self.sizes.append(len(requests))
        keys = [each["PutRequest"]["Item"]["id"]["S"] for each in requests]
        assert len(set(keys)) == len(keys) <= 25
        done = requests[: max(0, len(requests) - self.leaves)]
        self.items |= {each["PutRequest"]["Item"]["id"]["S"]: each["PutRequest"]["Item"] for each in done}
        left = requests[len(done) :]
        return {"UnprocessedItems": {name: left} if left else {}}

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        ((name, asked),) = RequestItems.items()
        assert asked["ConsistentRead"]
        assert len(asked["Keys"]) <= 100
        done = asked["Keys"][: max(0, len(asked["Keys"]) - self.leaves)]
        left = asked["Keys"][len(done) :]
        return {
            "Responses": {name: [self.items[key["id"]["S"]] for key in done if key["id"]["S"] in self.items]},
            "UnprocessedKeys": {name: asked | {"Keys": left}} if left else {},
        }


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("sluice.aws.retries.time.sleep", found.append)
    return found


def use(monkeypatch: pytest.MonkeyPatch, table: Table) -> Table:
    monkeypatch.setattr(dynamodb, "client", lambda _: table)
    return table


def items(count: int) -> list[dict[str, Any]]:
    return [{"id": str(number)} for number in range(count)]


def test_items_go_out_25_to_a_request(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    table = use(monkeypatch, Table(leaves=0))
    dynamodb.put_items("t", items(60))
    assert sorted(table.sizes) == [10, 25, 25]
    assert (len(table.items), pauses) == (60, [])
    dynamodb.put_items("t", [])
    assert len(table.sizes) == 3


def test_items_left_undone_are_sent_again_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    table = use(monkeypatch, Table(leaves=20))
    table_puts = table.batch_write_item

    def some_at_a_time(RequestItems: dict[str, Any]) -> dict[str, Any]:
        answer = table_puts(RequestItems)
        table.leaves -= 7
        return answer

    monkeypatch.setattr(table, "batch_write_item", some_at_a_time)
    dynamodb.put_items("t", items(25))
    assert table.sizes == [25, 20, 13, 6]
    assert len(table.items) == 25
    assert pauses[2] > pauses[0] > 0


def test_a_table_that_never_takes_an_item_is_an_error_that_says_how_many(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    use(monkeypatch, Table(leaves=3))
    with pytest.raises(dynamodb.ItemsRefused, match=r"table t: 3 items were not written in 10 requests.*throttled"):
        dynamodb.put_items("t", items(25))
    assert len(pauses) == 9


def test_items_are_read_100_to_a_request_and_what_is_left_out_again(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    table = use(monkeypatch, Table(0, {str(number): {"id": {"S": str(number)}} for number in range(0, 250, 2)}))
    found = dynamodb.get_items("t", items(250))
    assert sorted(int(each["id"]) for each in found) == list(range(0, 250, 2))
    table.leaves = 99
    with pytest.raises(dynamodb.ItemsRefused, match="not read"):
        dynamodb.get_items("t", items(99))


def test_a_transaction_cancelled_for_no_condition_or_conflict_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = ["TransactionConflict"]

    class Cancelling:
        def transact_write_items(self, TransactItems: list[Any]) -> None:
            reasons = [{"Code": code} for code, _ in zip(codes, TransactItems, strict=True)]
            error = {"Error": {"Code": "TransactionCanceledException", "Message": ""}, "CancellationReasons": reasons}
            raise ClientError(error, "TransactWriteItems")  # type: ignore[arg-type]

    monkeypatch.setattr(dynamodb, "client", lambda _: Cancelling())
    assert dynamodb.transact([dynamodb.Delete("t", {"id": "a"})]) is False
    codes[0] = "ThrottlingError"
    with pytest.raises(ClientError):
        dynamodb.transact([dynamodb.Delete("t", {"id": "a"})])
