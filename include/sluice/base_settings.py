"""Base model and types of the settings of every pipeline."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

CANARY = "sluice-canary"
"""Reserved for `platform_canary`: the name of each of its records (docs/decisions/0033)."""


def _five_cron_fields(value: str) -> str:
    from croniter import croniter

    # Unset: started by hand only.
    if not value:
        return value
    if len(value.split()) != 5 or not croniter.is_valid(value):
        raise ValueError("not a cron expression of five fields, such as '*/5 * * * *'")
    return value


CronExpression = Annotated[str, AfterValidator(_five_cron_fields)]
"""A cron expression of five fields, in UTC, or "" for none."""


class PipelineSettings(BaseModel):
    """A model of the settings of one pipeline: fields named `<pipeline>_...`, and names of resources made of them."""

    model_config = ConfigDict(frozen=True)

    environment: str = Field(
        "dev", pattern=r"^[a-z][a-z0-9-]{0,15}$", description="name of this deployment, part of stack and queue names"
    )

    @property
    def resource_prefix(self) -> str:
        """Prefix of stack, topic and queue names, one for each environment."""
        return f"sluice-{self.environment}"
