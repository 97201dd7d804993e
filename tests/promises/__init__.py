"""Subjects of the suite over all pipelines: a module for each, of the same name, with its Dags in `SUBJECTS`."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from promises.subject import Promise, Subject
from sluice import pipelines


def subjects() -> dict[str, type[Subject]]:
    """Dag -> its subject, of every pipeline."""
    found: dict[str, type[Subject]] = {}
    for name in pipelines.names():
        # A pipeline without subjects is named by a test.
        if importlib.util.find_spec(f"promises.{name}"):
            found |= {each.dag_id: each for each in importlib.import_module(f"promises.{name}").SUBJECTS}
    return found


def keeps(promise: Promise) -> pytest.MarkDecorator:
    """Run a test on every Dag that keeps this promise."""
    kept = [dag_id for dag_id, subject in subjects().items() if promise not in subject.exceptions]
    return pytest.mark.parametrize("subject", kept, indirect=True)
