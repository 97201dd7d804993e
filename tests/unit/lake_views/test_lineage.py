from __future__ import annotations

from typing import Any

from sluice.lake_views.lineage import DAG, graph, paths
from sluice.monitoring.pipelines import pipelines
from sluice.settings import load_settings

ON_THE_WAY = {"dockerhub_rebuild", "events_rebuild", "datasets_await"}
"""Dags that publish to the same tables again, or only wait."""


def shown(name: str, **more: Any) -> dict[str, Any]:
    (found,) = [pipeline for pipeline in pipelines(load_settings()) if pipeline.name == name]
    return {
        "pipeline": name,
        "dags": [{"dag": dag.dag_id, "state": "ok", "last_success_at": None} for dag in found.dags],
        "queues": [{"queue": queue, "waiting": 3, "dead_letters": 0} for queue in found.queues],
        "streams": [],
        "tables": [{"table": table, "freshness_seconds": 5} for dag in found.dags for table in dag.tables],
        "gate": {"outcome": "passed"},
    } | more


def test_every_dag_queue_stream_and_table_of_the_pipelines_is_in_the_graph() -> None:
    declared = paths(load_settings())
    for pipeline in pipelines(load_settings()):
        if pipeline.name == "platform":
            continue
        names = {node.name for path in declared[pipeline.name] for node in path}
        for dag in pipeline.dags:
            streams = {stream.name for stream in dag.streams}
            tables = set(dag.tables) - {load_settings().modules_message_table}
            wanted = set() if dag.dag_id in ON_THE_WAY else {dag.dag_id, *dag.queues, *tables}
            assert wanted | streams <= names


def test_what_waits_in_a_queue_is_on_the_edge_to_its_dag() -> None:
    found = graph(paths(load_settings()), [shown("datasets")])
    labels = {(edge["from"], edge["to"]): edge["label"] for edge in found["edges"]}
    assert labels[load_settings().datasets_queue, "datasets_aggregate"] == "3 waiting"
    assert next(node for node in found["nodes"] if node["name"] == "datasets")["freshness_seconds"] == 5


def test_a_failed_gate_colours_the_table_and_dead_letters_their_queue() -> None:
    queue = {"queue": load_settings().datasets_queue, "waiting": 0, "dead_letters": 2}
    found = graph(paths(load_settings()), [shown("datasets", gate={"outcome": "failed"}, queues=[queue])])
    states = {node["name"]: node["state"] for node in found["nodes"]}
    assert (states["datasets"], states[load_settings().datasets_queue]) == ("failed", "dead-letters")


def test_a_person_who_may_not_read_a_dag_does_not_see_its_way() -> None:
    mine = shown("dockerhub")
    mine["dags"] = [dag for dag in mine["dags"] if dag["dag"] == "dockerhub_pull"]
    names = {node["name"] for node in graph(paths(load_settings()), [mine])["nodes"]}
    assert "dockerhub_history" in names
    assert not names & {"dockerhub_aggregate", load_settings().dockerhub_table}
    assert DAG == "dag"
