"""One Spark for all of these tests. Run them with `uv run --group spark pytest tests/spark`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from sluice.engines.spark import local_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

collect_ignore_glob: list[str] = []
try:
    import pyspark  # noqa: F401
except ImportError:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        # It computes for seconds: its JVM would compile longer, at a high level, than that makes anything faster.
        patch.setenv("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        with local_spark("parity", tmp_path_factory.mktemp("spark"), 1024) as session:
            yield session
