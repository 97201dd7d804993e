"""A Dag of another team, as docs/architecture.md shows it: it runs when the history of pulls was published."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, dag

from sluice_airflow.tasks import task


@dag(schedule=[Asset.ref(name="dockerhub_history")])
def downstream() -> None:
    @task
    def look(triggering_asset_events: dict[Asset, Any]) -> list[dict[str, Any]]:
        """What was published."""
        return [event.extra for events in triggering_asset_events.values() for event in events]

    look()


downstream()
