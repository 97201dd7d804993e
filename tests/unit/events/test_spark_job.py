from __future__ import annotations

from pathlib import Path

from sluice.pipelines.events import spark_job


def test_an_hour_without_raw_files_needs_no_spark(tmp_path: Path) -> None:
    assert spark_job.dedup_hour([], [], tmp_path).rows_in == 0
