"""Entries of the data dictionary: collections and fields that a pipeline publishes and keeps.

Each pipeline's `dictionary.py` declares its own; `sluice.monitoring.dictionary` has all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sluice.aws.tables.definitions import TableDefinition


@dataclass(frozen=True)
class Field:
    """A field of a record or an attribute of an item: its name, its type, and what it holds, with the unit."""

    name: str
    type: str
    description: str
    key: Literal["", "partition key", "sort key"] = ""


@dataclass(frozen=True)
class Collection:
    """Records of one shape: a table, or files below a prefix.

    Attributes:
        name: of the table, or of the files.
        kind: its storage.
        holds: what one record is.
        place: where it is: setting of the table's name, or the prefix in the lake bucket.
        fields: its fields, keys first.
        written_by: Dags that write it; the owner is their pipeline.
        fresh: delay until new data is in it.
        kept: retention of a record.
        partitioning: its partition fields; "" for none.
    """

    name: str
    kind: Literal[
        "Iceberg table", "Glue table of parquet files", "DynamoDB table", "JSON Lines", "JSON", "parquet file"
    ]
    holds: str
    place: str
    fields: tuple[Field, ...]
    written_by: tuple[str, ...]
    fresh: str
    kept: str
    partitioning: str = ""


def checkpoints(name: str, place: str, *, written_by: tuple[str, ...]) -> Collection:
    """The entry of the checkpoints of a stream (`sluice.core.checkpoints`).

    Args:
        name: of the table.
        place: setting of its name, or the name itself.
        written_by: Dags that drain the stream.
    """
    return Collection(
        name,
        "DynamoDB table",
        "How far one shard was read",
        place,
        (
            Field("stream", "S", "name of the stream", "partition key"),
            Field("shard_id", "S", "the shard", "sort key"),
            Field("sequence_number", "S", "of the last record that was published or quarantined"),
            Field("published_by", "S", "run that moved the checkpoint here"),
            Field(
                "pending_until", "S", "last record of a batch that a run began to publish; the next run drains it again"
            ),
            Field("pending_run", "S", "run that began to publish that batch"),
            Field("closed", "BOOL", "true once the shard was split or merged and all of it was read"),
        ),
        written_by,
        "5 minutes",
        "for ever",
    )


def iceberg(definition: TableDefinition, *, key: str, written_by: tuple[str, ...], fresh: str) -> Collection:
    """The entry of an Iceberg table, whose columns its definition declares.

    Args:
        definition: the table.
        key: columns that identify a row, in words.
        written_by: Dags that write it.
        fresh: delay until new data is in it.
    """
    partition = f"{definition.partition_by} of `{definition.partition_column}`"
    if definition.partition_by == "identity":
        partition = f"`{definition.partition_column}`"
    return Collection(
        definition.name,
        "Iceberg table",
        f"{definition.description}. Key: {key}.",
        f"Glue database `SLUICE_GLUE_DATABASE`, files below `{definition.prefix}`",
        tuple(Field(column.name, column.type, column.description) for column in definition.columns),
        written_by,
        fresh,
        "for ever; snapshots for `SLUICE_TABLE_RETENTION_HOURS`",
        partition,
    )
