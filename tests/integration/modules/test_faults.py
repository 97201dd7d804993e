from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from embedded_aws import FaultInjection
from modules_world import World
from sluice.aws import sessions
from sluice.aws.sessions import client
from sluice.pipelines.modules import steps
from sluice_dev.samples.modules import Fleet

FLEET = Fleet(modules=6, weeks=2, attempts=3, resets=0.3, duplicates=0.1, seed=3)


@pytest.fixture
def world_faults(world: World) -> Iterator[FaultInjection]:
    assert world.settings.endpoint_url
    injection = FaultInjection(world.settings.endpoint_url, world.settings.aws_account_id)
    yield injection
    injection.clear()


def test_dynamodb_may_throttle_every_third_call(world: World, world_faults: FaultInjection) -> None:
    truth = world.send_fleet(FLEET)
    world_faults.inject("throttle", service="dynamodb", every=3)
    world.run("run")
    assert world_faults.injected() >= 10
    world_faults.clear()
    assert world.unfinished() == (0, 0)
    published = world.published()
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in published} == truth
    assert len(published) == len(truth)
    assert world.rates() == truth


@pytest.mark.parametrize("service", ["sqs", "sns", "s3"])
def test_every_third_call_of_another_service_may_be_throttled(
    world: World, world_faults: FaultInjection, service: str
) -> None:
    truth = world.send_fleet(Fleet(modules=6, weeks=1, attempts=3, duplicates=0, malformed=0, seed=5))
    world_faults.inject("throttle", service=service, every=3)
    world.run("run")
    world_faults.clear()
    assert world.unfinished() == (0, 0)
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in world.published()} == truth


def test_an_answer_that_is_lost_is_asked_for_again_and_changes_nothing(
    world: World, world_faults: FaultInjection
) -> None:
    truth = world.send_fleet(FLEET)
    world_faults.inject("drop", service="dynamodb", every=3)
    world.run("run")
    world_faults.clear()
    published = world.published()
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in published} == truth
    assert len(published) == len(truth), "a note that was written was taken for that of another run"
    assert world.unfinished() == (0, 0)


@pytest.mark.parametrize("operation", ["BatchWriteItem", "UpdateItem", "Query", "Publish"])
def test_while_aws_refuses_nothing_is_deleted_and_the_next_run_does_all(world: World, operation: str) -> None:
    from sluice.aws.sessions import client

    truth = world.send_fleet(FLEET)
    service = "sns" if operation == "Publish" else "dynamodb"
    name = "PublishBatch" if operation == "Publish" else operation

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, name)

    event = f"provide-client-params.{service}.{name}"
    client(service).meta.events.register(event, refuse)  # type: ignore[call-overload]
    messages, diagnostics = world.unfinished()
    with pytest.raises(ClientError, match="AccessDenied"):
        world.run("refused")
    client(service).meta.events.unregister(event, refuse)  # type: ignore[call-overload]
    left = world.unfinished()
    assert left == (messages if operation == "BatchWriteItem" else 0, diagnostics)
    world.redeliver()
    world.run("next")
    assert world.rates() == truth
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in world.published()} == truth
    assert world.unfinished() == (0, 0)


def test_what_is_not_deployed_is_named_with_the_way_out(world: World) -> None:
    client("sqs").delete_queue(QueueUrl=world.messages_url)
    with pytest.raises(sessions.ResourceMissing, match=r"sluice-test-recv_message does not exist: run `sluice deploy`"):
        steps.collect("run")
