from __future__ import annotations

import pytest

from modules_world import World
from sluice.modules import steps
from sluice.settings import Settings


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> World:
    """An account with what the modules pipeline stands on."""
    # The emulator has one server, and it answers a short poll for all that it holds.
    monkeypatch.setattr(steps, "LONG_POLL_SECONDS", 0)
    return World(settings)
