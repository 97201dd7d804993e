"""The sensor of datasets that have not arrived yet."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk.exceptions import AirflowSensorTimeout

from sluice.errors import TerminalError
from sluice.pipelines.datasets.records import parse_key
from sluice.settings import load_settings

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

LOOK_SECONDS = 10


class DatasetMissing(TerminalError):
    """A dataset did not arrive in time."""


class DatasetSensor(S3KeySensor):
    """Wait in the triggerer, which this project always has, until a file of the landing bucket exists.

    Args:
        source: template of what names the file, as the parameter `source` of datasets_aggregate does.
        wait_minutes: template of how long to wait.
    """

    template_fields = (*S3KeySensor.template_fields, "source", "wait_minutes")

    def __init__(self, *, source: str, wait_minutes: str, **kwargs: Any) -> None:
        # Without a timeout of an attempt: the wait has its own.
        kwargs |= {"execution_timeout": None, "poke_interval": LOOK_SECONDS, "deferrable": True}
        super().__init__(bucket_key="", **kwargs)
        self.source = source
        self.wait_minutes = wait_minutes

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Also set bucket, key and timeout from the parameters."""
        super().render_template_fields(context, jinja_env)
        self.bucket_name = load_settings().landing_bucket
        self.bucket_key = parse_key(self.source, self.bucket_name).location
        self.timeout = 60 * int(self.wait_minutes)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """End the wait.

        Raises:
            DatasetMissing: the time is over.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            again = json.dumps({"source": self.source, "wait_minutes": int(self.wait_minutes)})
            command = shlex.join(["sluice", "airflow", "dags", "trigger", "datasets_await", "--conf", again])
            raise DatasetMissing(
                f"s3://{self.bucket_name}/{self.bucket_key} did not arrive within {self.wait_minutes} min: upload it,"
                f" or ask its supplier and wait again with `{command}`"
            ) from None
