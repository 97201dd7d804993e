"""Declaration of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sluice.core.pipeline import Asset, Dag, Explanation, Notification, Pipeline
from sluice.settings import Settings

if TYPE_CHECKING:
    from sluice.aws.tables.definitions import TableDefinition

GATE = "accommodations/consolidate"

COMMANDS = {"partners": "sluice.pipelines.accommodations.commands:partners"}
"""Commands of `sluice`: name -> `<module>:<attribute>`."""


def pipeline(settings: Settings) -> Pipeline:
    """Catalogues of partners merged into one, with the record of the best partner for each accommodation."""
    lake = f"s3://{settings.lake_bucket}/curated"
    return Pipeline(
        "accommodations",
        dags=(
            Dag(
                "accommodations_consolidate",
                "*/30 * * * *",
                deadline_seconds=900,
                tables=("accommodations", "accommodations_current"),
                queues=(settings.accommodations_queue,),
            ),
        ),
        notifications=(Notification("landing", "accommodations/", "", settings.accommodations_queue),),
        assets=(
            Asset(
                "partner_files",
                f"s3://{settings.landing_bucket}/accommodations",
                "json",
                "Catalogues as uploaded by partners",
            ),
            Asset(
                "accommodations",
                f"{lake}/accommodations",
                "json",
                "Consolidated accommodations of each batch",
                GATE,
            ),
            Asset(
                "accommodations_candidates",
                f"{lake}/accommodations_candidates",
                "iceberg",
                "The newest record of every accommodation and partner",
                GATE,
            ),
            Asset(
                "accommodations_current",
                f"{lake}/accommodations_current",
                "iceberg",
                "The latest consolidated record of every accommodation",
                GATE,
            ),
        ),
        tables=_tables,
        explanations={settings.accommodations_queue: Explanation(unreadable=_why_unreadable)},
        expired_staging=(
            (
                "",
                "run `sluice airflow dags trigger accommodations_consolidate`; messages that no run processed are"
                " listed by `sluice dead-letters list accommodations`",
            ),
        ),
    )


def _tables() -> tuple[TableDefinition, ...]:
    from sluice.pipelines.accommodations.catalogue import CANDIDATES, CURRENT

    return CANDIDATES, CURRENT


def _why_unreadable(head: Path) -> str:
    """Why a partner's file cannot be read, if its first bytes show it."""
    from sluice.pipelines.accommodations.source import UnreadableFile, detect_format

    try:
        detect_format(head)
    except UnreadableFile as unreadable:
        return f"{unreadable.flaw}: {unreadable.flaw.detail}"
    return ""
