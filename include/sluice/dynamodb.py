"""DynamoDB: items in batches, whole queries, and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sluice.aws import client
from sluice.errors import SluiceError
from sluice.retries import until_done
from sluice.threads import in_parallel

Item = dict[str, Any]
"""An item, or a key, in DynamoDB's JSON: `{"moduleId": {"S": "a"}}`."""

WRITE_ITEMS = 25
READ_ITEMS = 100
"""Items of one BatchWriteItem and of one BatchGetItem at the most."""

ATTEMPTS = 10
FIRST_PAUSE_SECONDS = 0.05


class ItemsRefused(SluiceError):
    """DynamoDB left items of a batch undone, each time that they were sent."""


def put_items(table: str, items: Sequence[Item]) -> None:
    """Write whole items, replacing what was there: 25 to a request, several requests at a time.

    What DynamoDB leaves unprocessed is sent again after a growing pause.

    Args:
        table: name of the table.
        items: no two of one key, which DynamoDB refuses within a request.

    Raises:
        ItemsRefused: some were left undone ten times.
    """
    in_parallel(lambda start: _put_batch(table, items[start : start + WRITE_ITEMS]), range(0, len(items), WRITE_ITEMS))


def _put_batch(table: str, items: Sequence[Item]) -> None:
    waiting: Any = {table: [{"PutRequest": {"Item": item}} for item in items]}

    def write() -> bool | None:
        nonlocal waiting
        waiting = client("dynamodb").batch_write_item(RequestItems=waiting)["UnprocessedItems"]
        return None if waiting else True

    if not until_done(write, attempts=ATTEMPTS, first_pause_seconds=FIRST_PAUSE_SECONDS):
        raise _refused(table, len(waiting[table]), "written")


def get_items(table: str, keys: Sequence[Item]) -> list[Item]:
    """Items of distinct keys as of now, in no order; keys without an item are left out.

    Raises:
        ItemsRefused: some were left unread ten times.
    """
    batches = in_parallel(
        lambda start: _get_batch(table, keys[start : start + READ_ITEMS]), range(0, len(keys), READ_ITEMS)
    )
    return [item for batch in batches for item in batch]


def _get_batch(table: str, keys: Sequence[Item]) -> list[Item]:
    waiting: Any = {table: {"Keys": list(keys), "ConsistentRead": True}}
    found: list[Item] = []

    def read() -> bool | None:
        nonlocal waiting
        answer = client("dynamodb").batch_get_item(RequestItems=waiting)
        found.extend(answer["Responses"].get(table, []))
        waiting = answer["UnprocessedKeys"]
        return None if waiting else True

    if not until_done(read, attempts=ATTEMPTS, first_pause_seconds=FIRST_PAUSE_SECONDS):
        raise _refused(table, len(waiting[table]["Keys"]), "read")
    return found


def _refused(table: str, items: int, done: str) -> ItemsRefused:
    return ItemsRefused(
        f"DynamoDB table {table}: {items} items were not {done} in {ATTEMPTS} requests; the table is throttled:"
        " look at its capacity, and run again when it has some"
    )


def query_items(table: str, condition: str, names: dict[str, str], values: Item) -> Iterator[Item]:
    """Items that match a key condition as of now, in the order of their sort key, following every page."""
    for page in _query_pages(table, condition, names, values, {}):
        yield from page["Items"]


def count_items(table: str, condition: str, names: dict[str, str], values: Item) -> int:
    """How many items match a key condition as of now, over all pages; reads those items and no others."""
    return sum(page["Count"] for page in _query_pages(table, condition, names, values, {"Select": "COUNT"}))


def _query_pages(
    table: str, condition: str, names: dict[str, str], values: Item, options: dict[str, Any]
) -> Iterator[Any]:
    pages = (
        client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=table,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            **options,
        )
    )
    yield from pages
