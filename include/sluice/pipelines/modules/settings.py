"""Settings of the pipeline `modules`."""

from __future__ import annotations

from pydantic import Field

from sluice.base_settings import PipelineSettings


class ModulesSettings(PipelineSettings):
    """Settings of the pipeline `modules`."""

    modules_message_table: str = Field(
        "message_recv", pattern=r"^[A-Za-z0-9_.-]{3,255}$", description="DynamoDB table of the messages of modules"
    )
    modules_diagnostic_table: str = Field(
        "weekly_diagnostic",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of weekly diagnostics and published rates",
    )
    modules_max_messages: int = Field(
        50_000, ge=10, le=100_000, description="maximum number of messages that one run receives from each queue"
    )

    @property
    def recv_message_queue(self) -> str:
        """Name of the topic of the messages of modules and of its queue (infra/modules.yaml)."""
        return f"{self.resource_prefix}-recv_message"

    @property
    def weekly_diagnostic_queue(self) -> str:
        """Name of the topic of weekly diagnostics and of its queue (infra/modules.yaml)."""
        return f"{self.resource_prefix}-weekly_diagnostic"

    @property
    def success_rate_topic(self) -> str:
        """Name of the topic that rates are published to (infra/modules.yaml)."""
        return f"{self.resource_prefix}-success_rate"

    @property
    def canary_queue(self) -> str:
        """Name of the queue that receives the success rates of the canary's module (infra/modules.yaml)."""
        return f"{self.resource_prefix}-canary"
