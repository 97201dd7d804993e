"""An account with the table of visits."""

from __future__ import annotations

import pytest

from sluice.aws.sessions import client
from sluice.aws.tables import definitions
from sluice.settings import Settings
from tables_world import VISITS


@pytest.fixture
def lake(settings: Settings) -> Settings:
    """An account with a bucket, a database and the table."""
    client("s3").create_bucket(Bucket=settings.lake_bucket)
    client("glue").create_database(DatabaseInput={"Name": settings.glue_database})
    assert definitions.create_missing(settings, [VISITS]) == ["Add visits"]
    return settings
