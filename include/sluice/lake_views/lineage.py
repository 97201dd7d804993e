"""One graph of all pipelines, from source to readers, with the state of each node and what waits on the way.

Nodes are sources, queues and streams, Dags, and what they publish. The ways of the five pipelines are written here, in
more detail than they declare; those of any other follow from its declaration. States come from the overview.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sluice.core.pipeline import Pipeline
from sluice.lake_views import overview
from sluice.monitoring.pipelines import pipelines
from sluice.settings import Settings

SOURCE, QUEUE, STREAM, DAG, TABLE, READER = "source", "queue", "stream", "dag", "table", "reader"


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Attributes:
        name: unique in the graph.
        kind: `source`, `queue`, `stream`, `dag`, `table` or `reader`.
        about: what it is, in a few words.
    """

    name: str
    kind: str
    about: str = ""


Path = tuple[Node, ...]
"""Nodes one after another: data goes from each to the next."""


def paths(settings: Settings) -> dict[str, list[Path]]:
    """Pipeline -> the ways of its data."""
    lake = settings.lake_bucket
    dag = {
        name: Node(name, DAG) for pipeline in pipelines(settings) for name in (each.dag_id for each in pipeline.dags)
    }
    hub = Node("Docker Hub", SOURCE, "its API, every pull")
    raw_hub = Node("raw/dockerhub", SOURCE, f"answers, in s3://{lake}")
    hub_queue = Node(settings.dockerhub_queue, QUEUE, "arrivals of raw answers")
    producers = Node("event producers", SOURCE, "send events")
    stream = Node(settings.events_stream, STREAM, "events as sent")
    raw_events = Node("raw_events", TABLE, "events as received")
    events = Node("events", TABLE, "every event once, by hour")
    modules = Node("IoT modules", SOURCE, "messages and weekly diagnostics")
    messages = Node(settings.recv_message_queue, QUEUE, "messages of modules")
    diagnostics = Node(settings.weekly_diagnostic_queue, QUEUE, "weekly diagnostics")
    partners = Node("partner files", SOURCE, f"accommodations/ of s3://{settings.landing_bucket}")
    partner_queue = Node(settings.accommodations_queue, QUEUE, "arrivals of partner files")
    csv = Node("CSV files and URLs", SOURCE, f"datasets/ of s3://{settings.landing_bucket}")
    csv_queue = Node(settings.datasets_queue, QUEUE, "arrivals of CSV files")
    analysts = Node("SQL engines", READER, "Athena, Spark, DuckDB, sluice tables read")
    services = Node("services", READER, "read DynamoDB, subscribe to topics")
    written: dict[str, list[Path]] = {
        "dockerhub": [
            (hub, dag["dockerhub_pull"], Node("dockerhub_history", TABLE, "a row a pull"), analysts),
            (dag["dockerhub_pull"], raw_hub, hub_queue, dag["dockerhub_aggregate"]),
            (dag["dockerhub_aggregate"], Node(settings.dockerhub_table, TABLE, "months, DynamoDB"), services),
        ],
        "events": [
            (producers, stream, dag["events_ingest"], raw_events, dag["events_hourly"], events, analysts),
        ],
        "modules": [
            (modules, messages, dag["modules_diagnostics"], Node("module_success_rates", TABLE, "rates"), analysts),
            (
                modules,
                diagnostics,
                dag["modules_diagnostics"],
                Node("success_rate", TABLE, "rates, SNS topic"),
                services,
            ),
        ],
        "accommodations": [
            (
                partners,
                partner_queue,
                dag["accommodations_consolidate"],
                Node("accommodations_current", TABLE, "the current catalogue"),
                analysts,
            ),
            (
                dag["accommodations_consolidate"],
                Node("accommodations", TABLE, "outputs of batches, JSON Lines"),
                services,
            ),
        ],
        "datasets": [
            (csv, csv_queue, dag["datasets_aggregate"], Node("datasets", TABLE, "a parquet file a dataset"), analysts),
        ],
    }
    return {
        pipeline.name: written.get(pipeline.name) or declared_paths(pipeline, analysts)
        for pipeline in pipelines(settings)
        if pipeline.assets
    }


def declared_paths(pipeline: Pipeline, reader: Node) -> list[Path]:
    """The ways of a pipeline's data as it declares them: its first asset, queues and streams, Dags, their tables."""
    source = Node(pipeline.assets[0].name, SOURCE, pipeline.assets[0].description)
    found: list[Path] = []
    for dag in pipeline.dags:
        waiting = [Node(queue, QUEUE) for queue in dag.queues] + [Node(each.name, STREAM) for each in dag.streams]
        found += [(source, each, Node(dag.dag_id, DAG)) for each in waiting] or [(source, Node(dag.dag_id, DAG))]
        found += [(Node(dag.dag_id, DAG), Node(table, TABLE), reader) for table in dag.tables]
    return found


def read_lineage(settings: Settings, dag_ids: Container[str], now: datetime, web_url: str) -> dict[str, Any]:
    """The graph of what a person may read, with states, counts and ages.

    Args:
        settings: the settings of this process.
        dag_ids: Dags that the person may read.
        now: the time (UTC).
        web_url: address of Airflow's web UI.

    Raises:
        ResourceMissing: the platform's stack is not deployed.
    """
    seen = overview.read_overview(settings, dag_ids, now, web_url)
    return graph(paths(settings), seen["pipelines"]) | {"at": seen["at"]}


def graph(declared: Mapping[str, Iterable[Path]], shown: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Nodes with their state and figures, and edges with what is on its way.

    Args:
        declared: pipeline -> the ways of its data.
        shown: pipelines as the overview has them.
    """
    nodes: dict[str, dict[str, Any]] = {}
    edges: dict[tuple[str, str], dict[str, Any]] = {}
    for pipeline in shown:
        figures = _figures(pipeline)
        for path in declared.get(pipeline["pipeline"], ()):
            if any(node.kind == DAG and node.name not in figures for node in path):
                continue
            for node in path:
                found = {"name": node.name, "kind": node.kind, "about": node.about, "state": "", "figures": ""}
                known = nodes.setdefault(node.name, found | {"pipeline": pipeline["pipeline"]})
                if node.kind == READER:
                    known["pipeline"] = ""
                known |= figures.get(node.name, {})
                known |= {"gate": pipeline["gate"]} if node.kind == TABLE else {}
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
