"""DynamoDB: items in batches, whole queries, and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from sluice.aws.retries import until_done
from sluice.aws.sessions import client, error_code, hasty_client
from sluice.aws.threads import in_parallel
from sluice.errors import SluiceError

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


class Update(NamedTuple):
    """What became of a conditional update: whether the condition held, and the item as it is now, {} where none is."""

    is_written: bool
    item: Item


def update_where(
    table: str,
    key: Item,
    update: str,
    condition: str,
    values: Item,
    names: dict[str, str] | None = None,
    *,
    hasty: bool = False,
) -> Update:
    """Update one item, or make it, where a condition on it holds; nothing changes where it does not.

    Args:
        table: name of the table.
        key: of the item.
        update: update expression.
        condition: condition expression.
        values: what both expressions name `:...`.
        names: what they name `#...`.
        hasty: give up within seconds, for what goes beside a run.
    """
    wanted = {"UpdateExpression": update, "ReturnValues": "ALL_NEW"}
    answer = _write_where("update_item", table, key, condition, values, names, wanted, hasty=hasty)
    return Update("Attributes" in answer, answer.get("Attributes") or answer.get("Item", {}))


def delete_where(
    table: str, key: Item, condition: str, values: Item, names: dict[str, str] | None = None, *, hasty: bool = False
) -> Item:
    """Delete one item where a condition on it holds; the item that was deleted, {} where none was.

    The arguments are those of `update_where`.
    """
    wanted = {"ReturnValues": "ALL_OLD"}
    deleted: Item = _write_where("delete_item", table, key, condition, values, names, wanted, hasty=hasty).get(
        "Attributes", {}
    )
    return deleted


def _write_where(
    operation: str,
    table: str,
    key: Item,
    condition: str,
    values: Item,
    names: dict[str, str] | None,
    wanted: dict[str, str],
    *,
    hasty: bool,
) -> dict[str, Any]:
    """The answer, with `Attributes` as wanted; where the condition fails `Item`, if there is one, and no Attributes."""
    dynamodb_client = hasty_client("dynamodb") if hasty else client("dynamodb")
    arguments: dict[str, Any] = {"ExpressionAttributeNames": names} if names else {}
    try:
        answer: dict[str, Any] = getattr(dynamodb_client, operation)(
            TableName=table,
            Key=key,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **wanted,
            **arguments,
        )
    except ClientError as failure:
        if error_code(failure) != "ConditionalCheckFailedException":
            raise
        item: Any = failure.response.get("Item", {})
        return {"Item": item}
    return answer


def query_items(
    table: str, condition: str, names: dict[str, str], values: Item, *, hasty: bool = False
) -> Iterator[Item]:
    """Items that match a key condition as of now, in the order of their sort key, following every page.

    With `hasty`, AWS has seconds to answer (see `sluice.aws.sessions.hasty_client`).
    """
    for page in _query_pages(table, condition, names, values, {}, hasty=hasty):
        yield from page["Items"]


def query_newest(table: str, key: str, value: str, sort_key: str, start: str, limit: int) -> list[Item]:
    """The last items of a partition in the order of their sort key, the last first; AWS has seconds to answer.

    Args:
        table: name of the table.
        key: name of the partition key, a text.
        value: its value.
        sort_key: name of the sort key, a text.
        start: only items whose sort key is this or greater; "" for all.
        limit: items to read at the most, over as many pages as they need.
    """
    condition, values = "#key = :key", {":key": {"S": value}}
    names = {"#key": key}
    if start:
        condition += " AND #sort >= :start"
        values[":start"] = {"S": start}
        names["#sort"] = sort_key
    options = {"ScanIndexForward": False, "PaginationConfig": {"MaxItems": limit}}
    pages = _query_pages(table, condition, names, values, options, hasty=True)
    return [item for page in pages for item in page["Items"]]


def count_items(table: str, condition: str, names: dict[str, str], values: Item) -> int:
    """How many items match a key condition as of now, over all pages; reads those items and no others."""
    return sum(page["Count"] for page in _query_pages(table, condition, names, values, {"Select": "COUNT"}))


def _query_pages(
    table: str, condition: str, names: dict[str, str], values: Item, options: dict[str, Any], *, hasty: bool = False
) -> Iterator[Any]:
    # An empty map is refused by DynamoDB.
    arguments: dict[str, Any] = {"ExpressionAttributeNames": names} if names else {}
    pages = (
        (hasty_client if hasty else client)("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            **arguments,
            **options,
        )
    )
    yield from pages
