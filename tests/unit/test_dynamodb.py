"""What DynamoDB leaves undone is sent again; the emulator leaves nothing, so its answers are made here."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.aws import dynamodb


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
    return [{"id": {"S": str(number)}} for number in range(count)]


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
    assert sorted(int(each["id"]["S"]) for each in found) == list(range(0, 250, 2))
    table.leaves = 99
    with pytest.raises(dynamodb.ItemsRefused, match="not read"):
        dynamodb.get_items("t", items(99))
