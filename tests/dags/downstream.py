"""A Dag of another team, as docs/architecture.md shows it: it runs when the history of pulls was published."""

from __future__ import annotations

from airflow.sdk import Asset, dag, task


@dag(schedule=[Asset.ref(name="dockerhub_history")])
def downstream():
    @task
    def look(triggering_asset_events) -> list[dict]:
        """What was published."""
        return [event.extra for events in triggering_asset_events.values() for event in events]

    look()


downstream()
