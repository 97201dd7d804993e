"""Settings of the pipeline `datasets`."""

from __future__ import annotations

from pydantic import Field

from sluice.base_settings import PipelineSettings


class DatasetsSettings(PipelineSettings):
    """Settings of the pipeline `datasets`."""

    datasets_max_messages: int = Field(
        25, ge=1, le=10_000, description="maximum number of messages that one run of datasets_aggregate receives"
    )
    datasets_memory_limit_mb: int = Field(
        1024, ge=256, description="memory of the engine before it spills to disk, MiB"
    )
    datasets_url_timeout_seconds: float = Field(
        600.0, gt=0, le=1800, description="timeout of the download of a dataset from a URL"
    )
    datasets_url_max_bytes: int = Field(
        5 * 1024 * 1024 * 1024, ge=1, description="maximum size of a dataset from a URL, after decoding"
    )
    datasets_url_allow_private: bool = Field(
        False, description="also fetch datasets from URLs whose host has a private, loopback or link-local address"
    )

    @property
    def datasets_queue(self) -> str:
        """Name of the queue that is notified of every uploaded dataset (infra/datasets.yaml)."""
        return f"{self.resource_prefix}-datasets"
