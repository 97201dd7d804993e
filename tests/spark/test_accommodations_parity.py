"""DuckDB and Spark 3.5 give the same rows from the SQL of `accommodations`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accommodations_world import PRIORITY, a_record
from sluice.accommodations.records import Reason, usable_partners
from sluice.accommodations.source import lines_schema
from sluice.accommodations.transform import SQL_FILE, consolidation, create_priority
from sluice.engine import read_queries, to_spark
from sluice.spark_json import field_count, is_json, json_fields, json_kind, json_struct, read_json

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIELDS = ("accommodation_id", "partner_name", "accommodation_data")

RECORDS = "SELECT accommodation_id, partner_name, record_id AS recency FROM judged WHERE reason IS NULL"

FEW = settings(max_examples=4, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
"""Each example is a large batch, and none is made smaller: Spark takes seconds for any."""


def by_duckdb(folder: Path, lines: pa.Table) -> dict[str, list[Any]]:
    """Query of consolidate.sql -> its rows, sorted."""
    queries = read_queries(SQL_FILE)
    found = {}
    with consolidation(folder, 256) as connection:
        create_priority(connection, usable_partners(PRIORITY, ["T"]))
        connection.from_arrow(lines).create_view("lines")
        connection.execute("DROP VIEW judged")
        for name, query in queries.items():
            connection.execute(f"CREATE TABLE {name} AS {query}")
            found[name] = sorted(connection.execute(f"FROM {name}").fetchall(), key=repr)
            if name == "judged":
                connection.execute(f"CREATE VIEW records AS {RECORDS}")
    return found


def by_spark(spark: SparkSession, folder: Path, lines: pa.Table) -> dict[str, list[Any]]:
    """As `by_duckdb`."""
    pq.write_table(lines, folder / "lines.parquet")
    spark.read.parquet(str(folder / "lines.parquet")).createOrReplaceTempView("lines")
    priority = list(enumerate(usable_partners(PRIORITY, ["T"])))
    spark.createDataFrame(priority, "place int, partner_name string").createOrReplaceTempView("priority")
    struct = "struct<" + ", ".join(f"{name}: string" for name in FIELDS) + ">"
    spark.udf.register("is_json", is_json, "boolean")
    spark.udf.register("json_fields", partial(json_struct, fields=dict.fromkeys(FIELDS, False)), struct)
    spark.udf.register("json_kind", json_kind, "string")
    # Spark asks for every row, also where the CASE around it does not.
    spark.udf.register("json_decoded", lambda text: text and str(read_json(text)), "string")
    spark.udf.register("field_count", field_count, "int")
    spark.udf.register(
        "has_repeated_field",
        lambda text: len({name for name, _ in json_fields(text)}) < field_count(text),
        "boolean",
    )
    found = {}
    for name, query in read_queries(SQL_FILE).items():
        frame = spark.sql(to_spark(query))
        frame.createOrReplaceTempView(name)
        found[name] = sorted((tuple(row) for row in frame.collect()), key=repr)
        if name == "judged":
            spark.sql(RECORDS).createOrReplaceTempView("records")
    return found


def assert_same(spark: SparkSession, folder: Path, texts: list[tuple[str, str | None]]) -> dict[str, list[Any]]:
    lines = pa.Table.from_pylist(
        [{"record_id": number, "text": text, "flaw": flaw} for number, (text, flaw) in enumerate(texts)],
        schema=lines_schema(),
    )
    found = by_duckdb(folder, lines)
    assert by_spark(spark, folder, lines) == found
    return found


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
names = st.sampled_from([*PRIORITY, "R", "", "é", 'D"', "\\"]) | json_values
ids = st.sampled_from(["1", "2", "10", "é", 'a"b', "\\", "\U0001f3e8"]) | json_values
data = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), json_values, max_size=4) | json_values
damages = st.sampled_from(
    [
        *[lambda text: text] * 8,
        lambda _: " \r",
        lambda text: text[:-3],
        lambda text: f" {text} \r",
        lambda text: f"[{text}]",
        lambda text: text.replace("}", ",}"),
        lambda text: text.replace("partner_name", "partner"),
        lambda text: text.replace("{", '{"accommodation_id": "1", ', 1),
        lambda text: text.replace("{", '{"a further field": [1.0, null], ', 1),
        lambda text: json.dumps(text),
    ]
)
records = st.builds(
    lambda partner, key, about, damage: damage(
        json.dumps({"partner_name": partner, "accommodation_id": key, "accommodation_data": about}, ensure_ascii=False)
    ),
    *(names, ids, data, damages),
)


@FEW
@given(batch=st.lists(records, min_size=100, max_size=200))
def test_any_batch_gives_the_same_rows(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, batch: list[str]
) -> None:
    assert_same(spark, tmp_path_factory.mktemp("batch"), [(text, None) for text in batch])


def test_every_reason_and_the_worked_example_of_the_contract_are_the_same(spark: SparkSession, tmp_path: Path) -> None:
    offers = {"104": "RW", "105": "XE", "441": "LD", "107": "OC"}
    good = [json.dumps(a_record(key, partner)) for key, partners in offers.items() for partner in partners]
    large = json.dumps(a_record("1", "A", "é" * 249_990), ensure_ascii=False)
    bad = [
        *["not json", "[1]", '"text"', "{}", json.dumps(a_record(1, "A")), json.dumps(a_record("", "A")), large],
        good[0].replace("{", '{"accommodation_id": "7", ', 1),
    ]
    found = assert_same(
        spark,
        tmp_path,
        [*((text, None) for text in [*good, *bad, ""]), ("cut", Reason.TOO_LARGE), ("?", Reason.NOT_UTF8)],
    )
    partner_of = {row[0]: row[2] for row in found["judged"] if row[4] is None}
    assert {(key, partner_of[record_id]) for key, record_id in found["consolidated"]} == {
        ("105", "X"),
        ("441", "D"),
        ("107", "C"),
    }
    assert {row[4] for row in found["judged"]} - {None, "blank"} == set(Reason) - {Reason.OBJECT_MISSING}
