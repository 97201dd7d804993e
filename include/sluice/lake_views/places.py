"""Zones of the lake bucket: their retention, and the pipeline of a key."""

from __future__ import annotations

from datetime import datetime, timedelta

from sluice.core.pipeline import Asset
from sluice.errors import TerminalError
from sluice.lake import STAGING_DAYS
from sluice.monitoring.pipelines import pipelines
from sluice.pipelines.datasets.records import OUTPUT_PREFIX
from sluice.settings import Settings

ZONES: dict[str, int | None] = {
    "raw/": 365,
    "staging/": STAGING_DAYS,
    "curated/": None,
    "quarantine/": 90,
    "quality/": 90,
}
"""Prefix -> retention of its objects in days (infra/lake.yaml); None for ever."""


class OutsideTheLake(TerminalError):
    """A key or prefix outside of the zones of the lake, or of no pipeline."""


def zone_of(key: str) -> str:
    """The zone of a key or prefix.

    Raises:
        OutsideTheLake: it is in none, or its path has empty parts, `.` or `..`.
    """
    zone = next((zone for zone in ZONES if key.startswith(zone)), "")
    parts = key.removesuffix("/").split("/")
    if not zone or any(part in ("", ".", "..") for part in parts):
        raise OutsideTheLake(f"{key!r} is in no zone of the lake; those are {', '.join(ZONES)}")
    return zone


def pipeline_of(settings: Settings, key: str) -> str:
    """The pipeline whose data a key or prefix holds; "" for a zone itself.

    Below `curated/` a folder is a table of a pipeline, everywhere else a pipeline.

    Raises:
        OutsideTheLake: it is in no zone, or of no pipeline.
    """
    zone = zone_of(key)
    folder = key.removeprefix(zone).partition("/")[0]
    if not folder:
        return ""
    owner = table_owners(settings).get(folder, "") if zone == "curated/" else folder
    if owner not in {pipeline.name for pipeline in pipelines(settings)}:
        raise OutsideTheLake(f"{key!r} belongs to no pipeline")
    return owner


def pipeline_of_object(settings: Settings, key: str) -> str:
    """The pipeline whose object a key names.

    Raises:
        OutsideTheLake: it is the key of a zone or folder, or of no pipeline.
    """
    owner = pipeline_of(settings, key)
    if not owner or key.count("/") < 2 or key.endswith("/"):
        raise OutsideTheLake(f"{key!r} is not an object of a pipeline")
    return owner


def table_owners(settings: Settings) -> dict[str, str]:
    """Folder below `curated/` -> its pipeline."""
    owners: dict[str, str] = {}
    for pipeline in pipelines(settings):
        published = (table for dag in pipeline.dags for table in dag.tables)
        defined = (table.name for table in pipeline.tables())
        owners |= dict.fromkeys((*published, *defined), pipeline.name)
    return owners


def table_pages(settings: Settings) -> dict[str, Asset]:
    """Name of each table that has a page of its own -> its asset: Iceberg tables, and the folder of datasets."""
    datasets = f"s3://{settings.lake_bucket}/{OUTPUT_PREFIX}".removesuffix("/")
    assets = (asset for pipeline in pipelines(settings) for asset in pipeline.assets)
    return {asset.name: asset for asset in assets if asset.format == "iceberg" or asset.uri == datasets}


def expires_at(key: str, stored_at: datetime) -> datetime | None:
    """Earliest time at which the lifecycle rule of its zone deletes an object; None for ever."""
    days = ZONES[zone_of(key)]
    return stored_at + timedelta(days=days) if days else None
