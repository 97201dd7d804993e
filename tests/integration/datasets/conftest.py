from __future__ import annotations

import pytest

from datasets_world import World
from sluice.settings import Settings


@pytest.fixture
def world(settings: Settings) -> World:
    return World(settings)
