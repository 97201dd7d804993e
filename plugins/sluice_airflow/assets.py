"""Assets: what the Dags read and publish, as Airflow's asset graph shows it, from each pipeline's source to its table.

A task that publishes has the published assets as outlets, and their sources as inlets, even if an earlier task read
them: Airflow's graph and lineage go from inlet to outlet of one task. `note_publication` attaches counts and snapshots
to each event. A Dag of another team is scheduled on one by its name: `schedule=[Asset.ref(name="events")]`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from sluice import lake
from sluice.core.tally import COUNTS
from sluice.lake import run_slug
from sluice.pipelines import declaration
from sluice.settings import load_settings
from sluice_airflow.alerts import partition_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue


@cache
def assets(pipeline: str) -> dict[str, Asset]:
    """Name -> asset of a pipeline, as it declares them (`sluice/pipelines/<name>/pipeline.py`).

    From the initial settings of the process: an asset has one address in the database of Airflow.
    """
    settings = load_settings()
    place = {"target": settings.target, "region": settings.aws_region}
    made = {}
    for each in declaration(pipeline, settings).assets:
        about: dict[str, JsonValue] = {
            "description": each.description,
            "format": each.format,
            "pipeline": pipeline,
            "gate": each.gate,
        }
        asset = Asset(name=each.name, group=pipeline, extra={**about, **place})
        # Not by its argument: Airflow would look for a normalizer of the scheme among its providers, and import that of
        # Amazon, in each task and whenever a Dag file is read (0.2 s of CPU).
        object.__setattr__(asset, "uri", each.uri)
        made[each.name] = asset
    return made


def note_publication(context: Context, result: Any = None) -> None:
    """Attach details of the publication to each asset event of a task.

    These are the counts, the partition, the addresses of report and quarantine and, for a changed Iceberg table, the id
    of its snapshot, with which readers get exactly this publication later.
    """
    outlets = context["task"].outlets
    if not outlets:
        return
    returned = result if isinstance(result, dict) else {}
    counts = {name: returned[name] for name in COUNTS if name in returned}
    snapshots = returned.get("snapshots", {})
    bucket, run = load_settings().lake_bucket, run_of_keys(context)
    for asset in outlets:
        report = lake.quality_key(asset.extra["gate"], run, "html")
        quarantine = lake.quarantine_key(asset.extra["pipeline"], run, "")
        snapshot_id = snapshots.get(asset.name)
        context["outlet_events"][asset].extra = {
            **counts,
            **({"snapshot": snapshot_id} if snapshot_id else {}),
            "partition": partition_of(context),
            "report": f"s3://{bucket}/{report}",
            "quarantine": f"s3://{bucket}/{quarantine.removesuffix('.jsonl')}",
        }


def run_of_keys(context: Context) -> str:
    """The run as a part of the keys of a publishing task: that of its gate, which may differ from the run's id."""
    run_id = context["ti"].run_id
    upstream: list[Any] = list(context["task"].upstream_list)
    templates = [before.run for before in upstream if hasattr(before, "gate")]
    return run_slug(templates[0].replace("{{ run_id }}", run_id) if templates else run_id)
