from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from accommodations_world import World
from embedded_aws import FaultInjection, use_settings
from sluice.settings import Settings


@pytest.fixture(scope="session")
def accommodations_settings(embedded_server: Settings) -> dict[str, Any]:
    """Settings of an account with the infrastructure of the pipeline, created once, as that takes long."""
    number = f"{random.SystemRandom().randrange(10**12):012}"
    values: dict[str, Any] = {
        "target": "embedded",
        "environment": "test",
        "home": embedded_server.home,
        "aws_port": embedded_server.aws_port,
        "aws_account_id": number,
        "lake_bucket": f"lake-{number}",
        "landing_bucket": f"landing-{number}",
    }
    with pytest.MonkeyPatch.context() as patch:
        World.deploy(use_settings(patch, **values))
    return values


@pytest.fixture
def world(accommodations_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> World:
    """That account, empty."""
    world = World(use_settings(monkeypatch, **accommodations_settings))
    world.empty()
    return world


@pytest.fixture
def faults(world: World) -> Iterator[FaultInjection]:
    """Faults of the account of these tests."""
    assert world.settings.endpoint_url
    injection = FaultInjection(world.settings.endpoint_url, world.settings.aws_account_id)
    yield injection
    injection.clear()
