"""What every test stands on: the settings of its own, and the fixtures of the embedded AWS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The fixtures are imported by name, and Airflow puts the plugins on the path of its own processes only.
for folder in (Path(__file__).parent, Path(__file__).parents[1] / "plugins"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

pytest_plugins = ["embedded_aws", "dockerhub_account"]


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting, credential or proxy of whoever runs the tests; no cached settings or client of another test."""
    import os

    from embedded_aws import use_settings
    from sluice import aws
    from sluice.settings import load_settings

    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    use_settings(monkeypatch)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()
    aws.client_of.cache_clear()
