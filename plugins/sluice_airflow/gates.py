"""The operator of data-quality gates, and its button "Report"."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperator, BaseOperatorLink

from sluice import lake
from sluice.core.quality import GateFailed
from sluice.settings import load_settings

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey


class ReportLink(BaseOperatorLink):
    """The button "Report" of a gate that wrote its report, whether it passed or failed."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Address for a browser, which Airflow stores when the task ends; empty where no report was written."""
        written = getattr(operator, "written_report", "")
        return page_of(written) if written else ""


class GateOperator(BaseOperator):
    """Operator of a gate: the run publishes its staged data only if it passes.

    Args:
        gate: its name, `<pipeline>/<step>`, as in the key of its reports.
        expectations: the expectations in words.
        check: dotted name of the function that runs the gate on a run; the task imports it.
        run: template of the run whose staging is read.
    """

    template_fields = ("gate", "expectations", "run", "report")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, gate: str, expectations: str, check: str, run: str = "{{ run_id }}", **kwargs: Any) -> None:
        super().__init__(doc_md=f"Gate `{gate}`: {expectations}", **kwargs)
        self.gate = gate
        self.expectations = expectations
        self.check = check
        self.run = run
        self.report = ""
        self.written_report = ""

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Also make the run a part of a key, and say where the report will be."""
        super().render_template_fields(context, jinja_env)
        self.run = lake.run_slug(self.run)
        self.report = f"s3://{load_settings().lake_bucket}/{lake.quality_key(self.gate, self.run, 'html')}"

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Run the gate.

        Returns:
            What `sluice.core.quality.gate.run_gate` does, or `gate` and `rows` if nothing was staged.

        Raises:
            GateFailed: a critical expectation failed; later tasks do not run.
        """
        module, _, function = self.check.rpartition(".")
        try:
            found: dict[str, Any] = getattr(importlib.import_module(module), function)(self.run)
        except GateFailed as failed:
            self.written_report = failed.report
            raise
        self.written_report = found.get("report", "")
        return found


def page_of(address: str) -> str:
    """Address of an object of S3 for a browser.

    On an account that is its page in the console of S3, which requires a login: a presigned URL grants access to
    anyone who has it, and expires. The embedded AWS answers this machine only, and without a login.

    Args:
        address: `s3://<bucket>/<key>`.
    """
    settings = load_settings()
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if settings.endpoint_url is None:
        region = settings.aws_region
        return (
            f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?region={region}&prefix={quote(key, safe='')}"
        )
    # As a browser names it: in Compose the workers know it by another name. The credential only names the account.
    port = urlsplit(settings.endpoint_url).port
    return f"http://127.0.0.1:{port}/{bucket}/{quote(key)}?X-Amz-Credential={settings.aws_account_id}"
