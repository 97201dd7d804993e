"""The data dictionary covers every table, with the keys that the templates give it and a description of every field."""

from __future__ import annotations

import re

import pytest

from sluice.core.dictionary import Collection
from sluice.deployment.deploy import TEMPLATES, iceberg_tables
from sluice.deployment.template import load_template
from sluice.monitoring.dictionary import collections
from sluice.pipelines.events.records import PARTITION_COLUMNS
from sluice.settings import load_settings

ALL = [each for group in collections().values() for each in group]
DYNAMODB = [each for each in ALL if each.kind == "DynamoDB table"]


def dynamodb_keys() -> dict[str, dict[str, tuple[str, str]]]:
    """Setting of a table's name -> attribute -> type and role of the keys in its template."""
    found = {}
    for file in sorted(TEMPLATES.glob("*.yaml")):
        for resource in load_template(file.read_text())["Resources"].values():
            if resource["Type"] == "AWS::DynamoDB::Table":
                properties = resource["Properties"]
                setting = re.sub(r"(?<!^)(?=[A-Z])", "_", properties["TableName"]["Ref"]).upper()
                types = {each["AttributeName"]: each["AttributeType"] for each in properties["AttributeDefinitions"]}
                roles = {"HASH": "partition key", "RANGE": "sort key"}
                found[f"`SLUICE_{setting}`"] = {
                    each["AttributeName"]: (types[each["AttributeName"]], roles[each["KeyType"]])
                    for each in properties["KeySchema"]
                }
    return found


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_every_field_of_a_collection_is_described(each: Collection) -> None:
    assert each.fields
    assert [field.name for field in each.fields if not field.description.strip()] == []
    assert len({field.name for field in each.fields}) == len(each.fields)


def test_every_dynamodb_table_is_in_the_dictionary_with_its_keys() -> None:
    keys = dynamodb_keys()
    assert {each.place for each in DYNAMODB} == keys.keys()
    for each in DYNAMODB:
        assert {field.name: (field.type, field.key) for field in each.fields if field.key} == keys[each.place], (
            each.name
        )


def test_every_iceberg_table_that_is_deployed_is_in_the_dictionary() -> None:
    assert {each.name for each in ALL if each.kind == "Iceberg table"} == {
        table.name for table in iceberg_tables(load_settings())
    }


def test_the_columns_of_raw_events_are_those_of_its_template() -> None:
    table = load_template((TEMPLATES / "events.yaml").read_text())["Resources"]["RawTable"]["Properties"]["TableInput"]
    declared = {each["Name"]: each["Type"] for each in table["StorageDescriptor"]["Columns"]}
    raw = next(each for each in ALL if each.name == "raw_events")
    assert {field.name: field.type for field in raw.fields[:-1]} == declared
    assert raw.fields[-1].name == ", ".join(PARTITION_COLUMNS) == ", ".join(k["Name"] for k in table["PartitionKeys"])


def test_the_columns_of_a_dataset_are_those_that_are_written() -> None:
    from sluice.pipelines.datasets.transform import output_schema

    dataset = next(each for each in ALL if each.name == "curated/datasets")
    assert [(field.name, field.type) for field in dataset.fields] == [
        (field.name, str(field.type)) for field in output_schema()
    ]
