"""The deduplication as a Glue job: its manifest and its result. DuckDB simulates the job here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import lake
from sluice.aws import s3
from sluice.pipelines.events import hourly, steps
from sluice.pipelines.events.dedup import dedup_hour
from sluice.pipelines.events.spark_job import RESULT_FOLDER
from sluice.settings import load_settings


def key_of(address: str) -> str:
    return address.removeprefix("s3://").partition("/")[2]


def test_an_hour_is_processed_by_a_job_with_a_manifest_rows_and_counts(
    world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.put(300, seed=1, duplicates=0.2)
    world.ingest("ingest")
    monkeypatch.setenv("SLUICE_EVENTS_ENGINE", "glue")
    load_settings.cache_clear()
    bucket = world.settings.lake_bucket
    steps.register_partition("run", world.hour)

    manifest = json.loads(s3.read_object(bucket, lake.staging_key("events", "run", "hourly/manifest.json")).body)
    assert set(manifest) == {"raw", "previous", "out", "target_file_bytes"}
    raw = s3.download_files(bucket, [key_of(address) for address in manifest["raw"]], tmp_path / "raw")
    result = dedup_hour(raw, [], tmp_path / "out")
    out = key_of(manifest["out"])
    s3.upload_files(bucket, [(path, f"{out}{path.name}") for path in result.files])
    counts = {
        "rows_in": result.rows_in,
        "rows_out": result.rows_out,
        "duplicates_in_hour": result.duplicates_in_hour,
        "duplicates_of_previous": 0,
    }
    s3.write_object(bucket, f"{out}{RESULT_FOLDER}/part-00000", json.dumps(counts).encode())
    s3.write_object(bucket, f"{out}{RESULT_FOLDER}/_SUCCESS", b"")

    assert steps.dedup("run")["rows"] == result.rows_out
    steps.publish_hour("run", lambda: world.now)
    world.assert_each_event_curated_once()


def test_a_job_that_left_no_counts_is_named(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(20, seed=1)
    world.ingest("ingest")
    monkeypatch.setenv("SLUICE_EVENTS_ENGINE", "glue")
    load_settings.cache_clear()
    steps.register_partition("run", world.hour)
    with pytest.raises(hourly.JobResultMissing, match="hourly/job/_result/"):
        steps.dedup("run")
