from __future__ import annotations

import pytest

from events_world import World
from sluice.settings import Settings


@pytest.fixture
def world(settings: Settings) -> World:
    """An account with the lake and what the events pipeline stands on."""
    return World(settings)
