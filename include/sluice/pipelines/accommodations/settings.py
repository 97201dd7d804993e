"""Settings of the pipeline `accommodations`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sluice.base_settings import PipelineSettings


class AccommodationsSettings(PipelineSettings):
    """Settings of the pipeline `accommodations`."""

    accommodations_max_messages: int = Field(
        10,
        ge=1,
        le=10_000,
        description="maximum number of messages that one run of accommodations_consolidate receives",
    )
    accommodations_priority_table: str = Field(
        "partner_priority",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of the priority list and of blocked partners",
    )
    accommodations_priority_billing: Literal["provisioned", "on_demand"] = Field(
        "provisioned", description="5 read and 2 write units of that table, or paid by request"
    )
    accommodations_ledger_table: str = Field(
        "accommodations_ledger",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of the published files and of the announced batch",
    )
    accommodations_memory_limit_mb: int = Field(
        2048, ge=256, description="memory of the engine before it spills to disk, MiB"
    )

    @property
    def accommodations_queue(self) -> str:
        """Name of the queue that is notified of every partner file (infra/accommodations.yaml)."""
        return f"{self.resource_prefix}-accommodations"
