"""Fixtures of tests that talk to the embedded AWS: one server a session, an account of its own for each test.

Listed in `pytest_plugins` of tests/conftest.py.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore.retries import standard

from sluice.aws import sessions
from sluice.deployment.deploy import TEMPLATES, deploy, parameters_of
from sluice.deployment.stacks import deploy_stack
from sluice.deployment.template import load_template
from sluice.settings import Settings, load_settings
from sluice_dev.emulator import server


class FaultInjection:
    """Faults and request counts of one account; `rule` as in sluice_dev.emulator.faults."""

    def __init__(self, endpoint_url: str, account: str) -> None:
        self.account = account
        self.http = httpx.Client(base_url=f"{endpoint_url}/_sluice", trust_env=False)
        self.rules: list[dict[str, Any]] = []

    def inject(self, kind: str, **rule: Any) -> None:
        """Add a rule: `inject("throttle", service="dynamodb", operation="PutItem", every=2, times=3)`."""
        self.rules.append({"kind": kind, "account": self.account, **rule})
        self.http.put("/faults", json=self.rules).raise_for_status()

    def injected(self) -> int:
        """Faults that happened so far."""
        return sum(rule["injected"] for rule in self.http.get("/faults").raise_for_status().json())

    def clear(self) -> None:
        """Take all rules back."""
        self.rules = []
        self.http.delete("/faults").raise_for_status()

    def requests(self) -> Counter[tuple[str, str]]:
        """Requests of this account so far, by (service, operation), such as ("s3", "PutObject").

        The difference of two of these (`after - before`) are the requests of the code in between.
        """
        counts = self.http.get("/requests").raise_for_status().json()
        mine = (count for count in counts if count["account"] == self.account)
        return Counter({(count["service"], count["operation"]): count["count"] for count in mine})


def free_port() -> int:
    """A port of 127.0.0.1 without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the default settings in this process until the test ends, independent of `.env` and the environment."""
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        monkeypatch.delenv(name)
    load_settings.cache_clear()
    sessions.client_of.cache_clear()


def use_settings(monkeypatch: pytest.MonkeyPatch, **values: object) -> Settings:
    """Make these settings, and the defaults of all others, those of this process until the test ends."""
    forget_settings(monkeypatch)
    for name, value in values.items():
        monkeypatch.setenv(f"SLUICE_{name.upper()}", str(value))
    return load_settings()


def deploy_one_stack(settings: Settings, name: str) -> None:
    """Deploy one template without repairs: a deployment of all takes longer than most tests of one pipeline."""
    template = (TEMPLATES / f"{name}.yaml").read_text()
    body, parameters = json.dumps(load_template(template)), parameters_of(template, settings)
    stack_name = f"{settings.resource_prefix}-{name}"
    deploy_stack(sessions.client_of("cloudformation", settings), stack_name, body, parameters, {}, poll_seconds=0.02)


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A server of the embedded AWS for the whole session, with fault injection; yields the settings it runs with."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        home = tmp_path_factory.mktemp("sluice")
        settings = use_settings(monkeypatch, target="embedded", home=home, aws_port=free_port())
    server.start(settings, faults=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        # boto3 tries again as often as it does elsewhere, but waits for milliseconds instead of seconds.
        monkeypatch.setattr(
            standard.ExponentialBackoff, "delay_amount", lambda _, context: 0.01 * context.attempt_number
        )
        yield settings
    server.stop(settings)


@pytest.fixture
def settings(embedded_server: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of an empty account, those of `load_settings()` until the test ends."""
    account = f"{random.SystemRandom().randrange(10**12):012}"
    yield use_settings(
        monkeypatch,
        target="embedded",
        environment="test",
        home=embedded_server.home,
        aws_port=embedded_server.aws_port,
        aws_account_id=account,
        # Accounts share the names of buckets, as on AWS.
        lake_bucket=f"lake-{account}",
        landing_bucket=f"landing-{account}",
    )
    load_settings.cache_clear()
    sessions.client_of.cache_clear()


@pytest.fixture
def deployed(settings: Settings) -> Settings:
    """Settings of an account that has all stacks."""
    deploy(settings)
    return settings


@pytest.fixture
def faults(settings: Settings) -> Iterator[FaultInjection]:
    """Faults and request counts of the account of this test."""
    assert settings.endpoint_url
    injection = FaultInjection(settings.endpoint_url, settings.aws_account_id)
    yield injection
    injection.clear()
