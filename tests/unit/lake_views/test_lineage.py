from __future__ import annotations

from typing import Any

from sluice.lake_views.lineage import DAG, Flow, Path, graph, paths
from sluice.monitoring.pipelines import pipelines
from sluice.settings import load_settings

FLOWS = {
    "dockerhub_pull": Flow(frozenset({"docker_hub"}), frozenset({"dockerhub_history", "raw_dockerhub"})),
    "dockerhub_aggregate": Flow(frozenset({"raw_dockerhub"}), frozenset({"dockerhub_stats"})),
    "dockerhub_rebuild": Flow(frozenset({"raw_dockerhub"}), frozenset({"dockerhub_stats"})),
    "datasets_aggregate": Flow(frozenset({"dataset_files"}), frozenset({"datasets"})),
    "datasets_await": Flow(),
}


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


def names_of(ways: list[Path]) -> list[list[str]]:
    return [[node.name for node in way] for way in ways]


def test_the_ways_of_a_pipeline_follow_from_what_its_dags_read_and_publish() -> None:
    settings = load_settings()
    found = paths(settings, FLOWS)
    assert names_of(found["datasets"]) == [
        ["dataset_files", settings.datasets_queue, "datasets_aggregate"],
        ["datasets_aggregate", "datasets", "SQL engines"],
    ]
    assert names_of(found["dockerhub"]) == [
        ["docker_hub", "dockerhub_pull"],
        ["dockerhub_pull", "raw_dockerhub"],
        ["dockerhub_pull", "dockerhub_history", "SQL engines"],
        ["raw_dockerhub", settings.dockerhub_queue, "dockerhub_aggregate"],
        ["dockerhub_aggregate", "dockerhub_stats", "services"],
    ], "a rebuild publishes the same again, and is no node"
    kinds = {node.name: node.kind for way in found["dockerhub"] for node in way}
    assert (kinds["docker_hub"], kinds["raw_dockerhub"], kinds["dockerhub_history"]) == ("source", "files", "table")


def test_what_waits_in_a_queue_is_on_the_edge_to_its_dag() -> None:
    found = graph(paths(load_settings(), FLOWS), [shown("datasets")])
    labels = {(edge["from"], edge["to"]): edge["label"] for edge in found["edges"]}
    assert labels[load_settings().datasets_queue, "datasets_aggregate"] == "3 waiting"
    assert next(node for node in found["nodes"] if node["name"] == "datasets")["freshness_seconds"] == 5


def test_a_failed_gate_colours_the_table_and_dead_letters_their_queue() -> None:
    queue = {"queue": load_settings().datasets_queue, "waiting": 0, "dead_letters": 2}
    found = graph(paths(load_settings(), FLOWS), [shown("datasets", gate={"outcome": "failed"}, queues=[queue])])
    states = {node["name"]: node["state"] for node in found["nodes"]}
    assert (states["datasets"], states[load_settings().datasets_queue]) == ("failed", "dead-letters")


def test_a_user_without_access_to_a_dag_does_not_see_its_path() -> None:
    mine = shown("dockerhub")
    mine["dags"] = [dag for dag in mine["dags"] if dag["dag"] == "dockerhub_pull"]
    names = {node["name"] for node in graph(paths(load_settings(), FLOWS), [mine])["nodes"]}
    assert "dockerhub_history" in names
    assert not names & {"dockerhub_aggregate", load_settings().dockerhub_table}
    assert DAG == "dag"
