"""One graph of all pipelines, from source to readers, with the state of each node and the backlogs in between.

Everything is derived: the assets that a Dag reads and publishes are the inlets and outlets of its tasks, as stored by
Airflow; the kind of each asset, and its queue or stream, are declared by its pipeline. States come from the overview.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from sluice.core.pipeline import Asset, Dag, Pipeline
from sluice.lake_views import overview
from sluice.lake_views.places import table_pages
from sluice.monitoring.pipelines import pipelines
from sluice.settings import Settings

SOURCE, QUEUE, STREAM, DAG, TABLE, FILES, TOPIC, READER = (
    *("source", "queue", "stream", "dag"),
    *("table", "files", "topic", "reader"),
)

KINDS = {"iceberg": TABLE, "dynamodb": TABLE, "parquet": TABLE, "sns": TOPIC}
"""Format of a published asset -> kind of its node; of any other format it is files."""


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Attributes:
        name: unique in the graph.
        kind: `source`, `queue`, `stream`, `dag`, `table`, `files`, `topic` or `reader`.
        about: short description.
        prefix: prefix of its files in the lake bucket; "" for none.
        table: its name in the overview, if that has its age.
        has_page: whether it is a table of the page Tables.
    """

    name: str
    kind: str
    about: str = ""
    prefix: str = ""
    table: str = ""
    has_page: bool = False


ENGINES = Node("SQL engines", READER, "Athena, Spark, DuckDB, sluice tables read")
SERVICES = Node("services", READER, "read DynamoDB and JSON, subscribe to topics")

Path = tuple[Node, ...]
"""Path of nodes: data flows from each to the next."""


@dataclass(frozen=True)
class Flow:
    """Assets that a Dag reads and publishes.

    Attributes:
        reads: names of assets that are inlets of its tasks.
        publishes: names of those that are outlets.
    """

    reads: frozenset[str] = frozenset()
    publishes: frozenset[str] = frozenset()


def paths(settings: Settings, flows: Mapping[str, Flow]) -> dict[str, list[Path]]:
    """Pipeline -> the paths of its data.

    Args:
        settings: the settings of this process.
        flows: Dag -> what it reads and publishes.
    """
    declared = pipelines(settings)
    assets = {asset.name: asset for pipeline in declared for asset in pipeline.assets}
    drawn = {pipeline.name: _drawn(pipeline, flows) for pipeline in declared}
    every = [flow for mine in drawn.values() for _, flow in mine]
    published = {name for flow in every for name in flow.publishes}
    read = {name for flow in every for name in flow.reads}
    pages = table_pages(settings)
    nodes = {
        name: _asset_node(settings, asset, pages, is_published=name in published) for name, asset in assets.items()
    }
    order = {name: place for place, name in enumerate(assets)}

    def ways(pipeline: Pipeline) -> Iterator[Path]:
        for dag, flow in drawn[pipeline.name]:
            for name in sorted(flow.reads & order.keys(), key=order.__getitem__):
                yield (nodes[name], *_carrier(settings, pipeline, dag, assets[name]), Node(dag.dag_id, DAG))
            for name in sorted(flow.publishes & order.keys(), key=order.__getitem__):
                reader = ENGINES if assets[name].format in ("iceberg", "parquet") else SERVICES
                yield (Node(dag.dag_id, DAG), nodes[name], *(() if name in read else (reader,)))

    return {pipeline.name: list(ways(pipeline)) for pipeline in declared if pipeline.assets}


def _drawn(pipeline: Pipeline, flows: Mapping[str, Flow]) -> list[tuple[Dag, Flow]]:
    """Dags that are nodes, without those that publish the same assets from the same sources as another one."""
    found: list[tuple[Dag, Flow]] = []
    for dag in pipeline.dags:
        flow = flows.get(dag.dag_id, Flow())
        is_known = any(flow.reads <= each.reads and flow.publishes <= each.publishes for _, each in found)
        if (flow.reads or flow.publishes) and not is_known:
            found.append((dag, flow))
    return found


def _asset_node(settings: Settings, asset: Asset, pages: Container[str], *, is_published: bool) -> Node:
    address = urlsplit(asset.uri)
    prefix = f"{address.path.strip('/')}/" if address.netloc == settings.lake_bucket else ""
    table = address.netloc if asset.format == "dynamodb" else asset.name
    kind = KINDS.get(asset.format, FILES) if is_published else SOURCE
    return Node(asset.name, kind, asset.description, prefix, table, has_page=asset.name in pages)


def _carrier(settings: Settings, pipeline: Pipeline, dag: Dag, asset: Asset) -> list[Node]:
    """The queue or stream that notifies a Dag of an asset; empty if the Dag reads the asset directly."""
    buckets = {"lake": settings.lake_bucket, "landing": settings.landing_bucket}
    notified = {
        each.queue: f"s3://{buckets[each.bucket]}/{each.prefix}".removesuffix("/") for each in pipeline.notifications
    }
    queues = [name for name in dag.queues if asset.uri in (f"sns://{name}/topic", notified.get(name))]
    streams = [each.name for each in dag.streams if asset.uri.startswith(f"kinesis://{each.name}/")]
    return [Node(name, QUEUE) for name in queues] + [Node(name, STREAM) for name in streams]


def read_lineage(
    settings: Settings, flows: Mapping[str, Flow], dag_ids: Container[str], now: datetime, web_url: str
) -> dict[str, Any]:
    """The graph of the pipelines that a user may read, with states, counts and ages.

    Args:
        settings: the settings of this process.
        flows: Dag -> what it reads and publishes.
        dag_ids: Dags that the user may read.
        now: the time (UTC).
        web_url: address of Airflow's web UI.

    Raises:
        ResourceMissing: the platform's stack is not deployed.
    """
    seen = overview.read_overview(settings, dag_ids, now, web_url)
    return graph(paths(settings, flows), seen["pipelines"]) | {"at": seen["at"]}


def graph(declared: Mapping[str, Iterable[Path]], shown: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Nodes with their state and figures, and edges with backlogs.

    Args:
        declared: pipeline -> the paths of its data.
        shown: pipelines of the overview.
    """
    nodes: dict[str, dict[str, Any]] = {}
    edges: dict[tuple[str, str], dict[str, Any]] = {}
    for pipeline in shown:
        figures = _figures(pipeline)
        for path in declared.get(pipeline["pipeline"], ()):
            if any(node.kind == DAG and node.name not in figures for node in path):
                continue
            for node in path:
                found = asdict(node) | {"state": "", "figures": "", "pipeline": pipeline["pipeline"]}
                known = nodes.setdefault(node.name, found)
                if node.kind == READER:
                    known["pipeline"] = ""
                known |= figures.get(node.table or node.name, {})
            for one, other in pairwise(path):
                edges.setdefault((one.name, other.name), {"from": one.name, "to": other.name, "label": ""})
        for queue in pipeline["queues"]:
            for edge in (edge for key, edge in edges.items() if key[0] == queue["queue"]):
                edge["label"] = f"{queue['waiting'] or 0:,} waiting" if queue["waiting"] is not None else "missing"
    return {"nodes": list(nodes.values()), "edges": list(edges.values())}


def _figures(pipeline: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name of a node -> its state and figures: Dags, queues, streams and tables."""
    found: dict[str, dict[str, Any]] = {}
    for dag in pipeline["dags"]:
        found[dag["dag"]] = {"state": dag["state"], "at": dag["last_success_at"]}
    for queue in pipeline["queues"]:
        dead = queue["dead_letters"] or 0
        state = "missing" if queue["waiting"] is None else "dead-letters" if dead else "ok"
        found[queue["queue"]] = {"state": state, "figures": f"{dead:,} dead letters" if dead else ""}
    for stream in pipeline["streams"]:
        found[stream["stream"]] = {
            "state": "missing" if stream["lag_seconds"] is None else "ok",
            "lag_seconds": stream["lag_seconds"],
        }
    gate = pipeline["gate"]
    for table in pipeline["tables"]:
        fresh = table["freshness_seconds"]
        state = "never ran" if fresh is None else "failed" if gate and gate["outcome"] == "failed" else "ok"
        found[table["table"]] = {"state": state, "freshness_seconds": fresh}
    return found
