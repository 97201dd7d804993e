"""Declaration of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice.core.pipeline import Asset, Dag, Explanation, Pipeline
from sluice.settings import Settings

if TYPE_CHECKING:
    from sluice.aws.tables.definitions import TableDefinition

COMMANDS = {"modules": "sluice.pipelines.modules.commands:modules"}
"""Commands of `sluice`: name -> `<module>:<attribute>`."""


def pipeline(settings: Settings) -> Pipeline:
    """Messages and weekly diagnostics of IoT modules into success rates."""
    return Pipeline(
        "modules",
        dags=(
            Dag(
                "modules_diagnostics",
                "*/5 * * * *",
                deadline_seconds=900,
                tables=(settings.modules_message_table,),
                queues=(settings.recv_message_queue, settings.weekly_diagnostic_queue),
            ),
        ),
        assets=(
            Asset("recv_message", f"sns://{settings.recv_message_queue}/topic", "sns", "Messages of IoT modules"),
            Asset(
                "weekly_diagnostic", f"sns://{settings.weekly_diagnostic_queue}/topic", "sns", "Diagnostics of modules"
            ),
            Asset(
                "success_rate",
                f"sns://{settings.success_rate_topic}/topic",
                "sns",
                "Success rate of each diagnostic",
                "modules/rates",
            ),
            Asset(
                "module_success_rates",
                f"s3://{settings.lake_bucket}/curated/module_success_rates",
                "iceberg",
                "Every published success rate",
                "modules/rates",
            ),
        ),
        tables=_tables,
        explanations={
            settings.recv_message_queue: Explanation(about=_about_message),
            settings.weekly_diagnostic_queue: Explanation(about=_about_diagnostic),
        },
        expired_staging=(
            (
                "",
                "run `sluice airflow dags trigger modules_diagnostics`; messages that no run processed are listed by"
                " `sluice dead-letters list modules`",
            ),
        ),
    )


def _tables() -> tuple[TableDefinition, ...]:
    from sluice.pipelines.modules.storage import RATES

    return (RATES,)


def _about_message(body: str, sent_at_ms: int) -> str:  # noqa: ARG001
    from sluice.pipelines.modules.records import parse_message

    message = parse_message(body)
    return f"message of module {message.module_id} at {message.timestamp}"


def _about_diagnostic(body: str, sent_at_ms: int) -> str:
    from sluice.pipelines.modules.records import parse_diagnostic

    diagnostic = parse_diagnostic(body, sent_at_ms)
    return f"diagnostic of module {diagnostic.module_id} at {diagnostic.timestamp}, {diagnostic.attempts} attempts"
