"""The Dag under test, in an account of its own with the infrastructure of its pipeline."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded_aws import use_settings
from promises import subjects
from promises.subject import Subject
from sluice.aws.sessions import client
from sluice.core import work_queue
from sluice.settings import Settings


@pytest.fixture
def subject(
    request: pytest.FixtureRequest, embedded_server: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Subject]:
    kind = subjects()[request.param]
    account = f"{random.SystemRandom().randrange(10**12):012}"
    settings = use_settings(
        monkeypatch,
        target="embedded",
        environment="test",
        home=embedded_server.home,
        aws_port=embedded_server.aws_port,
        aws_account_id=account,
        lake_bucket=f"lake-{account}",
        landing_bucket=f"landing-{account}",
        **kind.settings_changed(),
    )
    # The emulator has one server, and it answers a short poll for all that it holds.
    monkeypatch.setattr(work_queue, "LONG_POLL_SECONDS", 0)
    subject = kind(settings, tmp_path / "journal")
    subject.deploy()
    yield subject
    subject.close()
    # The emulator of all tests saves what it holds whenever one of them deploys.
    for table in client("dynamodb").list_tables()["TableNames"]:
        client("dynamodb").delete_table(TableName=table)
