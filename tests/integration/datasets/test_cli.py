"""Commands of a user: produce sample data, show the results."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner

from datasets_world import KEY, World, csv_of, row
from sluice.aws import s3
from sluice.cli import main
from sluice.pipelines.datasets import storage


def sluice(*arguments: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == exit_code, done.output
    return done.output


def test_a_produced_dataset_is_repeatable_and_is_shown_after_publication(world: World) -> None:
    said = sluice("produce", "dataset", "sales", "--rows", "300", "--malformed", "0.1", "--seed", "5", "--dps", "3")
    assert f"s3://{world.settings.landing_bucket}/datasets/sales.csv: 300 rows" in said
    first = s3.read_object(world.settings.landing_bucket, "datasets/sales.csv").body
    sluice("produce", "dataset", "sales", "--rows", "300", "--malformed", "0.1", "--seed", "5", "--dps", "3")
    assert s3.read_object(world.settings.landing_bucket, "datasets/sales.csv").body == first
    world.run("run", "datasets/sales.csv")
    shown = sluice("datasets", "show", "sales")
    assert "dp-002" in shown
    assert "percentage_avg" in shown
    assert [json.loads(line) for line in sluice("datasets", "show", "sales", "--json").splitlines()] == world.rows(
        "curated/datasets/sales.parquet"
    )


def test_the_list_names_rows_source_and_version_of_each_dataset(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no dataset is published yet" in sluice("datasets", "list")
    for name, rows in (("b", 1), ("a", 2)):
        world.put(csv_of(*[row()] * rows), f"datasets/{name} ü.csv")
        world.run(name, f"datasets/{name} ü.csv")
    first, second = (json.loads(line) for line in sluice("datasets", "list", "--json").splitlines())
    assert (first["name"], first["rows"], second["name"], second["rows"]) == ("a ü", 2, "b ü", 1)
    assert first["source"] == world.address("datasets/a ü.csv")
    assert datetime.fromisoformat(first["published_at"]).utcoffset() == timedelta(0)
    version = storage.read_version(world.settings.landing_bucket, "datasets/a ü.csv")
    assert version
    assert first["version"] == version.version_id
    monkeypatch.setenv("COLUMNS", "300")
    table = sluice("datasets", "list")
    assert world.address("datasets/b ü.csv") in table
    assert first["published_at"] in table


def test_a_size_may_be_given_instead_of_rows(world: World) -> None:
    sluice("produce", "dataset", "--size-mb", "0.2", "--seed", "1")
    size_bytes = len(s3.read_object(world.settings.landing_bucket, "datasets/sample.csv").body)
    assert 190_000 < size_bytes < 210_000


def test_a_dataset_that_is_not_there_is_answered_with_those_that_are(world: World) -> None:
    assert "no dataset is published yet" in sluice("datasets", "show", "sales", exit_code=1)
    world.put(csv_of(row()))
    world.run("run", KEY)
    assert "published are x" in sluice("datasets", "show", "sales", exit_code=1)


def test_a_dataset_without_rows_can_be_shown(world: World) -> None:
    world.put(csv_of())
    world.run("run", KEY)
    assert "x: 0 dps of 0 rows, from s3://" in sluice("datasets", "show", "x")
