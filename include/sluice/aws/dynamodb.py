"""DynamoDB in plain Python values: items, batches, whole queries, and one function for every write.

An item is a `dict` with text, int, Decimal, bool, None, bytes, lists, maps and sets; only this module reads and writes
the type tags of DynamoDB's JSON (`{"N": "1"}`). Numbers are exact: an integer comes back as int, any other as Decimal,
and a float is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from sluice.aws.retries import until_done
from sluice.aws.sessions import client, error_code, hasty_client
from sluice.aws.threads import in_parallel
from sluice.errors import SluiceError

Item = dict[str, Any]
"""An item, a key, or the values of an expression: name -> plain value."""

WRITE_ITEMS = 25
READ_ITEMS = 100
TRANSACTION_ITEMS = 100
"""Maximum number of items of one BatchWriteItem, one BatchGetItem and one TransactWriteItems."""

NUMBER_LIMIT = 10**38
"""DynamoDB stores 38 digits."""

ATTEMPTS = 10
FIRST_PAUSE_SECONDS = 0.05


class ItemsRefused(SluiceError):
    """DynamoDB left items of a batch unprocessed in every attempt."""


# Values


class _Serializer(TypeSerializer):
    """The serializer of boto3 with the frequent types first, as boto3 compares each value with twelve types in turn."""

    def serialize(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return {"S": value}
        if kind is int and -NUMBER_LIMIT < value < NUMBER_LIMIT:
            return {"N": str(value)}
        if kind is dict:
            return {"M": {name: self.serialize(each) for name, each in value.items()}}
        if kind is list:
            return {"L": [self.serialize(each) for each in value]}
        return super().serialize(value)


class _Deserializer(TypeDeserializer):
    """The deserializer of boto3 with the frequent types first, and integers as int, which boto3 reads as Decimal."""

    def deserialize(self, value: Any) -> Any:
        ((tag, found),) = value.items()
        if tag == "S":
            return found
        if tag == "N":
            return self._deserialize_n(found)
        if tag == "M":
            return {name: self.deserialize(each) for name, each in found.items()}
        return super().deserialize(value)

    def _deserialize_n(self, value: str) -> int | Decimal:
        try:
            return int(value)
        except ValueError:
            return Decimal(value)


_to_attribute = _Serializer().serialize
_from_attribute = _Deserializer().deserialize


def to_attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as DynamoDB's JSON.

    Raises:
        TypeError: a value is a float, or of a type that DynamoDB does not have.
        decimal.DecimalException: a number has more than 38 digits.
    """
    return {name: _to_attribute(value) for name, value in item.items()}


def from_attributes(attributes: Mapping[str, Any]) -> Item:
    """An item from DynamoDB's JSON."""
    return {name: _from_attribute(value) for name, value in attributes.items()}


# Whole items


def put_items(table: str, items: Sequence[Item]) -> None:
    """Write whole items, replacing what was there: 25 to a request, several requests at a time.

    Unprocessed items are sent again after a growing pause.

    Args:
        table: name of the table.
        items: with distinct keys, as DynamoDB refuses duplicates within a request.

    Raises:
        ItemsRefused: some were left unprocessed ten times.
    """
    in_parallel(lambda start: _put_batch(table, items[start : start + WRITE_ITEMS]), range(0, len(items), WRITE_ITEMS))


def _put_batch(table: str, items: Sequence[Item]) -> None:
    waiting: Any = {table: [{"PutRequest": {"Item": to_attributes(item)}} for item in items]}

    def write_some() -> bool | None:
        nonlocal waiting
        waiting = client("dynamodb").batch_write_item(RequestItems=waiting)["UnprocessedItems"]
        return None if waiting else True

    if not until_done(write_some, attempts=ATTEMPTS, first_pause_seconds=FIRST_PAUSE_SECONDS):
        raise _refused(table, len(waiting[table]), "written")


def get_item(table: str, key: Item) -> Item | None:
    """One item (consistent read); None if it does not exist."""
    answer = client("dynamodb").get_item(TableName=table, Key=to_attributes(key), ConsistentRead=True)
    return from_attributes(answer["Item"]) if "Item" in answer else None


def get_items(table: str, keys: Sequence[Item]) -> list[Item]:
    """Items of distinct keys (consistent read), unordered; keys without an item are omitted.

    Raises:
        ItemsRefused: some were left unread ten times.
    """
    batches = in_parallel(
        lambda start: _get_batch(table, keys[start : start + READ_ITEMS]), range(0, len(keys), READ_ITEMS)
    )
    return [item for batch in batches for item in batch]


def _get_batch(table: str, keys: Sequence[Item]) -> list[Item]:
    waiting: Any = {table: {"Keys": [to_attributes(key) for key in keys], "ConsistentRead": True}}
    found: list[Item] = []

    def read_some() -> bool | None:
        nonlocal waiting
        answer = client("dynamodb").batch_get_item(RequestItems=waiting)
        found.extend(map(from_attributes, answer["Responses"].get(table, [])))
        waiting = answer["UnprocessedKeys"]
        return None if waiting else True

    if not until_done(read_some, attempts=ATTEMPTS, first_pause_seconds=FIRST_PAUSE_SECONDS):
        raise _refused(table, len(waiting[table]["Keys"]), "read")
    return found


def _refused(table: str, items: int, done: str) -> ItemsRefused:
    return ItemsRefused(
        f"DynamoDB table {table}: {items} items were not {done} in {ATTEMPTS} requests; the table is throttled:"
        " check its capacity, and run again when it is available"
    )


# Single writes, with or without a condition


@dataclass(frozen=True)
class _Write:
    """Common parameters of the writes.

    Attributes:
        table: name of the table.
        key: key of the item; for a `Put` the whole item.
        condition: condition expression; "" for none.
        values: values of `:...` in the expressions.
        names: attribute names of `#...` in the expressions.
    """

    table: str
    key: Item
    condition: str = field(default="", kw_only=True)
    values: Item = field(default_factory=dict, kw_only=True)
    names: dict[str, str] = field(default_factory=dict, kw_only=True)

    def arguments(self) -> dict[str, Any]:
        """Arguments of boto3, also within a transaction; empty maps are omitted, as DynamoDB refuses them."""
        found: dict[str, Any] = {"TableName": self.table, "Key": to_attributes(self.key)}
        if self.condition:
            found["ConditionExpression"] = self.condition
        if self.values:
            found["ExpressionAttributeValues"] = to_attributes(self.values)
        if self.names:
            found["ExpressionAttributeNames"] = self.names
        return found


@dataclass(frozen=True)
class Put(_Write):
    """Write or replace a whole item."""

    def arguments(self) -> dict[str, Any]:
        """See `_Write`."""
        found = super().arguments()
        return {"Item": found.pop("Key"), **found}


@dataclass(frozen=True)
class Update(_Write):
    """Change attributes of an item by an update expression; creates the item if it does not exist."""

    update: str

    def arguments(self) -> dict[str, Any]:
        """See `_Write`."""
        return {"UpdateExpression": self.update, **super().arguments()}


@dataclass(frozen=True)
class Delete(_Write):
    """Delete an item, if it exists."""


@dataclass(frozen=True)
class Written:
    """Result of a write.

    Attributes:
        is_written: whether the condition held, and the write took place.
        attributes: the item, as DynamoDB's JSON.
    """

    is_written: bool
    attributes: dict[str, Any]

    @property
    def item(self) -> Item:
        """After an `Update` the new item; after a `Delete` the deleted item; {} after a `Put`.

        If the condition failed, the existing item, {} if there is none.
        """
        return from_attributes(self.attributes)


_OPERATIONS: dict[type[_Write], tuple[str, dict[str, str]]] = {
    Put: ("put_item", {}),
    Update: ("update_item", {"ReturnValues": "ALL_NEW"}),
    Delete: ("delete_item", {"ReturnValues": "ALL_OLD"}),
}


def write(what: Put | Update | Delete, *, hasty: bool = False) -> Written:
    """Execute one write if its condition holds; else nothing changes.

    With `hasty`, the request times out within seconds (see `sluice.aws.sessions.hasty_client`).
    """
    operation, wanted = _OPERATIONS[type(what)]
    if what.condition:
        wanted = wanted | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    try:
        answer = getattr((hasty_client if hasty else client)("dynamodb"), operation)(**what.arguments(), **wanted)
    except ClientError as failure:
        if error_code(failure) != "ConditionalCheckFailedException":
            raise
        there: Any = failure.response.get("Item", {})
        return Written(False, there)
    return Written(True, answer.get("Attributes", {}))


def transact(writes: Sequence[Put | Update | Delete]) -> bool:
    """Execute all writes, or none if a condition fails; more than a hundred are split into several transactions.

    Returns:
        False if a condition failed, or a concurrent transaction wrote to one of the items.
    """
    for start in range(0, len(writes), TRANSACTION_ITEMS):
        batch: Any = [{type(each).__name__: each.arguments()} for each in writes[start : start + TRANSACTION_ITEMS]]
        try:
            client("dynamodb").transact_write_items(TransactItems=batch)
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            codes = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
            if not codes & {"ConditionalCheckFailed", "TransactionConflict"}:
                raise
            return False
    return True


# Queries


def query_items(
    table: str, condition: str, values: Item, names: Mapping[str, str] | None = None, *, hasty: bool = False
) -> Iterator[Item]:
    """Items that match a key condition (consistent read), in the order of their sort key, over all pages.

    With `hasty`, the request times out within seconds (see `sluice.aws.sessions.hasty_client`).
    """
    for page in _pages("query", table, {"KeyConditionExpression": condition}, values, names, hasty=hasty):
        yield from map(from_attributes, page["Items"])


def query_newest(table: str, key: str, value: str, sort_key: str, start: str, limit: int) -> list[Item]:
    """The last items of a partition by descending sort key; the request times out within seconds.

    Args:
        table: name of the table.
        key: name of the partition key, a text.
        value: its value.
        sort_key: name of the sort key, a text.
        start: only items whose sort key is this or greater; "" for all.
        limit: maximum number of items, over all pages.
    """
    condition, values, names = "#key = :key", {":key": value}, {"#key": key}
    if start:
        condition += " AND #sort >= :start"
        values[":start"] = start
        names["#sort"] = sort_key
    operands = {
        "KeyConditionExpression": condition,
        "ScanIndexForward": False,
        "PaginationConfig": {"MaxItems": limit},
    }
    pages = _pages("query", table, operands, values, names, hasty=True)
    return [from_attributes(item) for page in pages for item in page["Items"]]


def count_items(table: str, condition: str, values: Item, names: Mapping[str, str] | None = None) -> int:
    """Number of items that match a key condition (consistent read), over all pages; reads only those items."""
    arguments = {"KeyConditionExpression": condition, "Select": "COUNT"}
    return sum(page["Count"] for page in _pages("query", table, arguments, values, names))


def scan_items(table: str, condition: str = "", values: Item | None = None) -> Iterator[Item]:
    """Items of a table that match a filter condition (consistent read); scans the whole table."""
    arguments = {"FilterExpression": condition} if condition else {}
    for page in _pages("scan", table, arguments, values or {}, None):
        yield from map(from_attributes, page["Items"])


def _pages(
    operation: str,
    table: str,
    operands: Mapping[str, Any],
    values: Item,
    names: Mapping[str, str] | None,
    *,
    hasty: bool = False,
) -> Iterable[Any]:
    # DynamoDB refuses empty maps.
    arguments: dict[str, Any] = {"TableName": table, "ConsistentRead": True, **operands}
    if names:
        arguments["ExpressionAttributeNames"] = names
    if values:
        arguments["ExpressionAttributeValues"] = to_attributes(values)
    dynamodb: Any = hasty_client("dynamodb") if hasty else client("dynamodb")
    pages: Iterable[Any] = dynamodb.get_paginator(operation).paginate(**arguments)
    return pages
