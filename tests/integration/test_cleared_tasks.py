"""Tasks of old runs that a person clears, in all pipelines."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import pytest

import accommodations_world
import datasets_world
import events_world
import modules_world
from dockerhub_account import WORKED_EXAMPLE, DockerHubAccount
from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.core import work_queue
from sluice.lake import StagingExpired
from sluice.monitoring import steps as watch
from sluice.monitoring.pipelines import instead_of_expired
from sluice.pipelines.accommodations import steps as accommodations
from sluice.pipelines.datasets import steps as datasets
from sluice.pipelines.dockerhub import steps as dockerhub
from sluice.pipelines.events import rebuild
from sluice.pipelines.events import steps as events
from sluice.pipelines.modules import steps as modules
from sluice.settings import Settings, load_settings


class Cleared(NamedTuple):
    """A run of a Dag and one that follows it: tasks by name in their order, each taking the run."""

    prefix: str
    first: dict[str, Callable[[], Any]]
    follow: Callable[[], Any]
    gate: Callable[[], Any]
    command: str


def accommodations_consolidate(request: pytest.FixtureRequest) -> Cleared:
    settings = request.getfixturevalue("settings")
    accommodations_world.World.deploy(settings)
    world = accommodations_world.World(settings)
    world.prioritise(accommodations_world.PRIORITY)
    world.drop("a.jsonl", [accommodations_world.a_record("1", "A"), {"partner_name": 1}])

    def follow() -> None:
        world.drop("b.jsonl", [accommodations_world.a_record("2", "A")])
        world.consolidate("later")

    tasks: dict[str, Callable[[], Any]] = {name: partial(world.step, name) for name in world.consolidate_steps}
    gate = lambda: accommodations.check_outputs("run")  # noqa: E731
    return Cleared("accommodations/run/", tasks, follow, gate, "sluice airflow dags trigger accommodations_consolidate")


def datasets_aggregate(request: pytest.FixtureRequest) -> Cleared:
    world = datasets_world.World(request.getfixturevalue("settings"))
    world.drop(datasets_world.csv_of(datasets_world.row()))
    counts: dict[str, int] = {}

    def follow() -> None:
        world.drop(datasets_world.csv_of(datasets_world.row(memory=7)))
        world.run("later")

    tasks: dict[str, Callable[[], Any]] = {
        "collect": lambda: counts.update(datasets.collect("run")),
        "aggregate": lambda: datasets.aggregate("run"),
        "publish": lambda: datasets.publish("run", counts),
    }
    return Cleared(
        "datasets/run/", tasks, follow, lambda: datasets.check("run"), "sluice airflow dags trigger datasets_aggregate"
    )


def modules_diagnostics(request: pytest.FixtureRequest) -> Cleared:
    request.getfixturevalue("monkeypatch").setattr(work_queue, "LONG_POLL_SECONDS", 0)
    world = modules_world.World(request.getfixturevalue("settings"))
    world.message("m", 1, 2, 3)
    world.diagnostic("m", 10, 4)
    counts: dict[str, int] = {}

    def follow() -> None:
        world.diagnostic("m", 10, 6)
        world.run("later")

    tasks: dict[str, Callable[[], Any]] = {
        "collect": lambda: counts.update(modules.collect("run")),
        "store": lambda: modules.store("run"),
        "compute_rates": lambda: modules.compute_rates("run"),
        "publish_rates": lambda: modules.publish_rates("run", counts),
    }
    gate = lambda: modules.check_rates("run")  # noqa: E731
    return Cleared("modules/run/", tasks, follow, gate, "sluice airflow dags trigger modules_diagnostics")


def events_ingest(request: pytest.FixtureRequest) -> Cleared:
    world = events_world.World(request.getfixturevalue("settings"))
    world.put(20, seed=1)

    def follow() -> None:
        world.put(20, seed=2)
        world.ingest("later")

    tasks: dict[str, Callable[[], Any]] = {
        "drain": lambda: events.drain("run"),
        "publish_batch": lambda: events.publish_batch("run"),
    }
    gate = lambda: events.check_batch("run")  # noqa: E731
    return Cleared("events/run/ingest/", tasks, follow, gate, "sluice airflow dags trigger events_ingest")


def events_hourly(request: pytest.FixtureRequest) -> Cleared:
    world = events_world.World(request.getfixturevalue("settings"))
    world.put_event("1", world.hour.timestamp() + 1)
    world.ingest("ingest-1")

    def follow() -> None:
        world.put_event("2", world.hour.timestamp() + 2)
        world.ingest("ingest-2")
        world.process("later", world.hour)

    tasks: dict[str, Callable[[], Any]] = {
        "register_partition": lambda: events.register_partition("run", world.hour),
        "dedup": lambda: events.dedup("run"),
        "publish_hour": lambda: events.publish_hour("run", lambda: world.now),
    }
    gate = lambda: events.check_hour("run")  # noqa: E731
    return Cleared("events/run/hourly/", tasks, follow, gate, "sluice airflow backfill create --dag-id events_hourly")


def events_rebuild(request: pytest.FixtureRequest) -> Cleared:
    world = events_world.World(request.getfixturevalue("settings"))
    world.put_event("1", world.hour.timestamp() + 1)
    world.ingest("ingest-1")

    def follow() -> None:
        world.put_event("2", world.hour.timestamp() + 2)
        world.ingest("ingest-2")
        world.process("later", world.hour)

    tasks: dict[str, Callable[[], Any]] = {
        "dedup_day": lambda: rebuild.dedup_day("run", world.day, lambda: world.now),
        "publish_day": lambda: rebuild.publish_day("run", lambda: world.now),
    }
    gate = lambda: rebuild.check_day("run")  # noqa: E731
    return Cleared("events/run/rebuild/", tasks, follow, gate, "sluice airflow backfill create --dag-id events_rebuild")


def dockerhub_aggregate(request: pytest.FixtureRequest) -> Cleared:
    account: DockerHubAccount = request.getfixturevalue("account")
    account.put(*WORKED_EXAMPLE[0])
    counts: dict[str, int] = {}

    def follow() -> None:
        account.put(*WORKED_EXAMPLE[3])
        dockerhub.publish_aggregates("later", dockerhub.collect("later"))

    tasks: dict[str, Callable[[], Any]] = {
        "collect": lambda: counts.update(dockerhub.collect("run")),
        "publish_aggregates": lambda: dockerhub.publish_aggregates("run", counts),
    }
    gate = lambda: dockerhub.check_objects("run")  # noqa: E731
    return Cleared("dockerhub/run/", tasks, follow, gate, "sluice airflow dags trigger dockerhub_aggregate")


DAGS = (
    accommodations_consolidate,
    datasets_aggregate,
    dockerhub_aggregate,
    events_hourly,
    events_ingest,
    events_rebuild,
    modules_diagnostics,
)


def everything() -> dict[str, Any]:
    """All that a reader can see in the account: objects but for staging, items, partitions' places, queue depths."""
    found: dict[str, Any] = {}
    settings = load_settings()
    for each in s3.list_objects(settings.lake_bucket, ""):
        if not each.key.startswith("staging/"):
            found[each.key] = each.etag
    for table in client("dynamodb").list_tables()["TableNames"]:
        items = client("dynamodb").scan(TableName=table)["Items"]
        found[table] = sorted(json.dumps(item, sort_keys=True) for item in items)
    for url in client("sqs").list_queues().get("QueueUrls", []):
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found[url] = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    glue: Any = client("glue")
    for database in glue.get_databases()["DatabaseList"]:
        for table in glue.get_tables(DatabaseName=database["Name"])["TableList"]:
            names = {"DatabaseName": database["Name"], "TableName": table["Name"]}
            places = [each["StorageDescriptor"]["Location"] for each in glue.get_partitions(**names)["Partitions"]]
            found[f"glue {table['Name']}"] = places
    return found


@pytest.mark.parametrize("dag", DAGS, ids=lambda dag: dag.__name__)
def test_cleared_tasks_of_a_published_run_change_nothing(
    dag: Callable[[pytest.FixtureRequest], Cleared], request: pytest.FixtureRequest
) -> None:
    run = dag(request)
    tallies = {name: task() for name, task in run.first.items()}
    *_, publish = run.first
    run.follow()
    seen = everything()
    # The last task alone, as it is cleared most; then the tasks from the second on; then all.
    assert run.first[publish]() == tallies[publish]
    assert everything() == seen
    _, *others = run.first
    for name in [*others, *run.first]:
        run.first[name]()
    assert everything() == seen

    bucket = load_settings().lake_bucket
    s3.delete_objects(bucket, list(s3.list_keys(bucket, f"staging/{run.prefix}")))
    readers = [task for name, task in run.first.items() if name in others]
    for task in (run.gate, *readers):
        with pytest.raises(StagingExpired) as raised:
            task()
        assert f"s3://{bucket}/staging/{run.prefix}" in str(raised.value)
        assert run.command in (raised.value.instead or instead_of_expired(load_settings(), raised.value.key))
    assert everything() == seen


def test_staging_that_expired_of_the_other_dags_names_their_commands(settings: Settings) -> None:
    client("s3").create_bucket(Bucket=settings.lake_bucket)
    cases: dict[str, Callable[[], Any]] = {
        "dags trigger dockerhub_pull": lambda: dockerhub.publish_answers("run", {"records_in": 1, "quarantined": 0}),
        "create --dag-id dockerhub_rebuild": lambda: dockerhub.check_objects("rebuild__run"),
        "dags trigger platform_watch": lambda: watch.send_alerts("run", lambda: datetime(2026, 11, 21, tzinfo=UTC)),
    }
    for command, task in cases.items():
        with pytest.raises(StagingExpired) as raised:
            task()
        assert command in instead_of_expired(load_settings(), raised.value.key)
