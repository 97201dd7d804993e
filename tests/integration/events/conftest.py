from __future__ import annotations

import pytest

from events_world import World
from sluice.settings import Settings


@pytest.fixture
def world(settings: Settings) -> World:
    """An account with the lake and the infrastructure of the events pipeline."""
    return World(settings)
