"""Columns of parquet files as the catalog has them, from their footers alone."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sluice.aws import glue


class Bucket:
    """Objects, and the number of their requested bytes."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects
        self.read_bytes: list[int] = []

    def get_object(self, **request: str) -> dict[str, Any]:
        wanted = int(request["Range"].removeprefix("bytes=-"))
        body = self.objects[request["Key"]][-wanted:]
        self.read_bytes.append(len(body))
        return {"Body": io.BytesIO(body)}


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none")
    return buffer.getvalue()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setattr(glue, "client", lambda _: made)
    return made


def test_the_columns_of_a_file_are_read_from_its_footer(bucket: Bucket) -> None:
    table = pa.table(
        {
            "text": pa.array([f"{number:0100}" for number in range(5000)]),
            "whole": pa.array(range(5000)),
            "part": pa.array([0.5] * 5000),
            "flag": pa.array([True] * 5000),
            "at": pa.array([0] * 5000, pa.timestamp("us", tz="UTC")),
        }
    )
    body = parquet(table.replace_schema_metadata({}))
    bucket.objects["file"] = body
    assert glue.footer_columns("b", "file") == {
        "text": "string",
        "whole": "bigint",
        "part": "double",
        "flag": "boolean",
        "at": "timestamp",
    }
    assert len(body) > 2 * glue.FOOTER_BYTES
    assert bucket.read_bytes == [glue.FOOTER_BYTES]


def test_a_footer_longer_than_expected_is_read_whole(bucket: Bucket) -> None:
    names = {f"column_with_a_long_name_{number:05d}": pa.array([number]) for number in range(2000)}
    bucket.objects["wide"] = parquet(pa.table(names))
    assert len(glue.footer_columns("b", "wide")) == 2000
    assert len(bucket.read_bytes) == 2


@pytest.mark.parametrize("body", [b"PAR1", b"hello, this is text", b"x" * 100])
def test_what_is_no_parquet_is_named(bucket: Bucket, body: bytes) -> None:
    bucket.objects["file"] = body
    with pytest.raises(glue.CatalogError, match="s3://b/file is not a parquet file"):
        glue.footer_columns("b", "file")


def test_columns_of_files_come_together_in_the_order_of_their_appearance(bucket: Bucket) -> None:
    bucket.objects["old"] = parquet(pa.table({"a": [1], "b": ["x"]}))
    bucket.objects["new"] = parquet(pa.table({"b": ["y"], "c": [True]}))
    assert list(glue.files_columns("b", ["old", "new"]).items()) == [
        ("a", "bigint"),
        ("b", "string"),
        ("c", "boolean"),
    ]


def test_files_that_disagree_about_a_column_are_named(bucket: Bucket) -> None:
    bucket.objects["old"] = parquet(pa.table({"a": [1]}))
    bucket.objects["new"] = parquet(pa.table({"a": ["one"]}))
    with pytest.raises(glue.ColumnConflict, match="column a is string in s3://b/new, but bigint in"):
        glue.files_columns("b", ["old", "new"])


def test_each_type_of_a_raw_column_has_its_type_in_the_catalog() -> None:
    types = {
        "string": pa.string(),
        "bigint": pa.int64(),
        "int": pa.int32(),
        "double": pa.float64(),
        "float": pa.float32(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    assert {name: glue.glue_type(kind) for name, kind in types.items()} == {name: name for name in types}


def test_a_type_that_no_table_of_ours_has_is_refused() -> None:
    with pytest.raises(glue.CatalogError, match="list"):
        glue.glue_type(pa.list_(pa.int64()))
