"""Items of the pipeline's DynamoDB table: which there are, and how they are read as of now.

One table holds, beside each other (partition key `stream`, sort key `shard_id`):

* `<stream>`, a shard: its checkpoint, and where a batch that is being published will move it to (`checkpoints`);
* `<stream>#hours`, an hour as `2024-04-07T17`: how it was last published (`hours`);
* `<stream>#touched`, an hour: its raw data changed since it was published (`marks`).
"""

from __future__ import annotations

from collections.abc import Iterator

from sluice.aws import dynamodb


def item_key(partition: str, sort: str) -> dynamodb.Item:
    """Key of one item."""
    return {"stream": partition, "shard_id": sort}


def query_items(table: str, partition: str) -> Iterator[dynamodb.Item]:
    """Items of one partition key as of now, following every page."""
    return dynamodb.query_items(table, "#stream = :pk", {":pk": partition}, {"#stream": "stream"})
