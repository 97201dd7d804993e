"""OpenLineage datasets of this project's assets, where the provider of the group `lineage` is installed.

The provider converts assets only by the scheme of their address: of the others it would emit nothing, and of an Iceberg
table the folder of its files instead of the table. Names follow https://openlineage.io/docs/spec/naming; for services
that it does not list, the namespace is the ARN up to the account, as for Glue.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.openlineage.extractors.base import BaseExtractor, OperatorLineage
from airflow.sdk import Asset
from openlineage.client.event_v2 import Dataset
from openlineage.client.facet_v2 import documentation_dataset, symlinks_dataset

from sluice.aws.sessions import client
from sluice.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = {"dynamodb": "table/", "kinesis": "stream/", "sns": ""}
"""Services whose assets are named like the rest of an ARN -> what is before the name there."""


class AssetExtractor(BaseExtractor):
    """Inputs and outputs of a task: its inlets and outlets. Named in `[openlineage] extractors`."""

    @classmethod
    def get_operator_classnames(cls) -> list[str]:
        """The operator of all tasks that have inlets and outlets."""
        return ["_PythonDecoratedOperator"]

    def _execute_extraction(self) -> OperatorLineage[Any, Any]:
        return OperatorLineage(inputs=_datasets(self.operator.inlets), outputs=_datasets(self.operator.outlets))


def _datasets(assets: Iterable[Any]) -> list[Dataset]:
    return [dataset_of(asset) for asset in assets if isinstance(asset, Asset) and "format" in asset.extra]


def dataset_of(asset: Asset) -> Dataset:
    """An asset of `sluice_airflow.assets` as OpenLineage names it."""
    settings = load_settings()
    facets: dict[str, Any] = {
        "documentation": documentation_dataset.DocumentationDatasetFacet(description=str(asset.extra["description"]))
    }
    address = urlsplit(asset.uri)
    place = (f"{address.scheme}://{address.netloc}", address.path.removeprefix("/"))
    if address.scheme in KINDS:
        return Dataset(_arn(address.scheme), f"{KINDS[address.scheme]}{address.netloc}", facets=facets)
    if asset.extra["format"] == "iceberg":
        files = symlinks_dataset.Identifier(*place, type="LOCATION")
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(identifiers=[files])
        return Dataset(_arn("glue"), f"table/{settings.glue_database}/{asset.name}", facets=facets)
    return Dataset(*place, facets=facets)


def _arn(service: str) -> str:
    settings = load_settings()
    return f"arn:aws:{service}:{settings.aws_region}:{_account_id()}"


@cache
def _account_id() -> str:
    """Asked once a task, and only where lineage is emitted."""
    return client("sts").get_caller_identity()["Account"]
