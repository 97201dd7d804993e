"""Items of the pipeline's DynamoDB table: which there are, and how they are read as of now.

One table holds, beside each other (partition key `stream`, sort key `shard_id`):

* `<stream>`, a shard: its checkpoint, and where a batch that is being published will move it to (`checkpoints`);
* `<stream>#hours`, an hour as `2024-04-07T17`: how it was last published (`hours`);
* `<stream>#touched`, an hour: its raw data changed since it was published (`marks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sluice.aws.sessions import client


def item_key(partition: str, sort: str) -> dict[str, Any]:
    """Key of one item."""
    return {"stream": {"S": partition}, "shard_id": {"S": sort}}


def read_item(table: str, key: dict[str, Any]) -> dict[str, Any] | None:
    """One item as of now; None when there is none."""
    return client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def query_items(table: str, partition: str) -> Iterator[dict[str, Any]]:
    """Items of one partition key as of now, following every page."""
    pages = (
        client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=table,
            KeyConditionExpression="#stream = :pk",
            ExpressionAttributeNames={"#stream": "stream"},
            ExpressionAttributeValues={":pk": {"S": partition}},
            ConsistentRead=True,
        )
    )
    for page in pages:
        yield from page["Items"]
