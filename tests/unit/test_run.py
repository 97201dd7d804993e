"""Keys of a run."""

from __future__ import annotations

import pytest

from sluice.core.run import Run
from sluice.settings import load_settings


@pytest.mark.parametrize("run_id", ["manual__2026-11-21T02:13:00+00:00", "manual__2026-11-21T02-13-00_00-00"])
def test_a_run_id_and_its_slug_are_the_same_run(run_id: str) -> None:
    run = Run.of("datasets", run_id)
    assert run.bucket == load_settings().lake_bucket
    assert run.staging_key("a.json") == "staging/datasets/manual__2026-11-21T02-13-00_00-00/a.json"
    assert run.quarantine_key("collect") == "quarantine/datasets/manual__2026-11-21T02-13-00_00-00/collect.jsonl"
    assert run.report_key("aggregate", "html") == "quality/datasets/aggregate/manual__2026-11-21T02-13-00_00-00.html"
