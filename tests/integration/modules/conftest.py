from __future__ import annotations

from collections.abc import Iterator

import pytest

from modules_world import World
from sluice.aws.sessions import client
from sluice.core import work_queue
from sluice.settings import Settings


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An account with the infrastructure of the modules pipeline."""
    # The emulator has one server, and it answers a short poll for all that it holds.
    monkeypatch.setattr(work_queue, "LONG_POLL_SECONDS", 0)
    yield World(settings)
    # The emulator of all tests saves what it holds whenever one of them deploys.
    client("dynamodb").delete_table(TableName=settings.modules_message_table)
