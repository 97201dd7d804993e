"""Conditional writes, transactions and whole queries on a real table."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sluice.aws import dynamodb
from sluice.aws.dynamodb import Delete, Item, Put, Update
from sluice.settings import Settings

KEY = {"PK": "a", "SK": "b"}


@pytest.fixture
def table(dockerhub_deployed: Settings) -> str:
    name = dockerhub_deployed.dockerhub_table
    for item in list(dynamodb.scan_items(name)):
        dynamodb.write(Delete(name, {"PK": item["PK"], "SK": item["SK"]}))
    return name


def write(what: Put | Update | Delete, *, hasty: bool = False) -> tuple[bool, Item]:
    written = dynamodb.write(what, hasty=hasty)
    return written.is_written, written.item


def test_each_write_says_whether_it_took_place_and_what_is_there(table: str) -> None:
    item = KEY | {"count": 1, "rate": Decimal("33.5"), "tags": {"x", "y"}}
    new = Put(table, item, condition="attribute_not_exists(PK)")
    assert write(new) == (True, {})
    assert write(new) == (False, item)
    values, names = {":one": 1, ":two": 2}, {"#count": "count"}
    step = Update(table, KEY, "SET #count = :two", condition="#count = :one", values=values, names=names)
    assert write(step) == (True, item | {"count": 2})
    assert write(step) == (False, item | {"count": 2})
    gone = Delete(table, KEY, condition="#count = :two", values={":two": 2}, names=names)
    assert write(gone, hasty=True) == (True, item | {"count": 2})
    assert write(gone) == (False, {})
    assert dynamodb.get_item(table, KEY) is None


def test_a_transaction_writes_all_or_nothing(table: str) -> None:
    dynamodb.write(Put(table, KEY))
    writes: list[Put | Delete] = [
        Put(table, KEY | {"SK": "new"}),
        Delete(table, KEY, condition="attribute_exists(batch_number)"),
    ]
    assert dynamodb.transact(writes) is False
    assert list(dynamodb.scan_items(table)) == [KEY]
    assert dynamodb.transact([writes[0], Update(table, KEY, "SET done = :yes", values={":yes": True})]) is True
    assert dynamodb.get_items(table, [KEY]) == [KEY | {"done": True}]


def test_queries_counts_and_scans_follow_every_page(table: str) -> None:
    many = [{"PK": "many", "SK": f"{number:04d}", "body": "x" * 300_000} for number in range(8)]
    dynamodb.put_items(table, [*many, KEY])
    condition, values = "PK = :pk", {":pk": "many"}
    assert list(dynamodb.query_items(table, condition, values)) == many
    assert dynamodb.count_items(table, condition, values) == 8
    assert sorted(item["SK"] for item in dynamodb.scan_items(table)) == [*(each["SK"] for each in many), "b"]
    assert list(dynamodb.scan_items(table, condition, {":pk": "a"})) == [KEY]
