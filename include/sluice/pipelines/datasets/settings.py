"""Settings of the pipeline `datasets`."""

from __future__ import annotations

from pydantic import Field

from sluice.base_settings import PipelineSettings


class DatasetsSettings(PipelineSettings):
    """Settings of the pipeline `datasets`."""

    datasets_max_messages: int = Field(
        25, ge=1, le=10_000, description="messages that one run of datasets_aggregate takes at the most"
    )
    datasets_memory_limit_mb: int = Field(
        1024, ge=256, description="memory of the engine before it spills to disk, MiB"
    )
    datasets_url_timeout_seconds: float = Field(
        600.0, gt=0, le=1800, description="time that the download of a dataset from a URL may take"
    )
    datasets_url_max_bytes: int = Field(
        5 * 1024 * 1024 * 1024, ge=1, description="largest dataset that is taken from a URL, once decoded"
    )
    datasets_url_allow_private: bool = Field(
        False, description="also fetch datasets from URLs whose host has a private, loopback or link-local address"
    )

    @property
    def datasets_queue(self) -> str:
        """Name of the queue that is notified of every dataset that was dropped off (infra/datasets.yaml)."""
        return f"{self.resource_prefix}-datasets"
