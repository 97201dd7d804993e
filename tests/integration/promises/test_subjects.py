"""Every Dag that publishes has a subject, and what does not apply to it is said with its reason."""

from __future__ import annotations

import re

import pytest

from promises import subjects
from promises.subject import Promise
from sluice import pipelines
from sluice.settings import PROJECT_ROOT, load_settings

PUBLISHES_NOTHING = {"datasets_await": "waits for a file and starts datasets_aggregate"}


def test_every_dag_of_every_pipeline_is_a_subject_of_the_suite() -> None:
    declared = {dag.dag_id for pipeline in pipelines.declared(load_settings()) for dag in pipeline.dags}
    missing = declared - subjects().keys() - PUBLISHES_NOTHING.keys()
    assert not missing, f"{missing}: add tests/promises/<pipeline>.py, as docs/guarantees.md says"


@pytest.mark.parametrize("dag_id", subjects())
def test_a_promise_that_cannot_apply_has_its_reason_in_the_docs(dag_id: str) -> None:
    page = re.sub(r"\s+", " ", (PROJECT_ROOT / "docs" / "guarantees.md").read_text())
    for promise, reason in subjects()[dag_id].exceptions.items():
        assert f"| `{dag_id}` | {Promise(promise)} | {reason} |" in page
