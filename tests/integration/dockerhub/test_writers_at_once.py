"""Writers of the same items at once, request by request, and writers that AWS refuses."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from dockerhub_account import WORKED_EXAMPLE, WORKED_MONTHS, WORKED_RESULT, DockerHubAccount, an_object
from embedded_aws import FaultInjection, free_port
from sluice.aws import s3, sessions
from sluice.aws.sessions import client
from sluice.aws.threads import in_parallel
from sluice.core.run import epoch_microseconds
from sluice.pipelines.dockerhub import steps, storage
from sluice.pipelines.dockerhub.transform import RawObject, partition_key
from sluice.settings import Settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Killed(BaseException):
    """The worker is gone; no code of it gets to handle this."""


@pytest.fixture
def before_write(account: DockerHubAccount) -> Iterator[Callable[[Callable[[str, str], None]], None]]:
    """Let a function see every write to DynamoDB and SQS before it is sent (operation, its repository or nothing)."""
    registered: list[tuple[Any, str, Any]] = []

    def watch(look: Callable[[str, str], None]) -> None:
        writes: tuple[tuple[Literal["dynamodb", "sqs"], str], ...] = (
            ("dynamodb", "UpdateItem"),
            ("sqs", "DeleteMessageBatch"),
        )
        for service, operation in writes:

            def handler(params: dict[str, Any], operation: str = operation, **_: Any) -> None:
                look(operation, params.get("Key", {}).get("PK", {}).get("S", ""))

            name = f"provide-client-params.{service}.{operation}"
            client(service).meta.events.register(name, handler)
            registered.append((client(service), name, handler))

    yield watch
    for each, name, handler in registered:
        each.meta.events.unregister(name, handler)


def repository(number: int) -> str:
    return f"repository-{number:02}"


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that time out at once, for tests of timeouts."""
    once = Config(retries={"mode": "standard", "total_max_attempts": 1})
    monkeypatch.setattr(sessions, "EMBEDDED_CLIENT_CONFIG", sessions.EMBEDDED_CLIENT_CONFIG.merge(once))
    sessions.client_of.cache_clear()


@pytest.mark.parametrize("kind", ["error", "throttle", "drop"])
def test_no_message_is_deleted_while_dynamodb_fails(
    account: DockerHubAccount, account_faults: FaultInjection, no_retries: None, kind: str
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    collected = steps.collect("run")
    account_faults.inject(kind, service="dynamodb", operation="UpdateItem")
    with pytest.raises(Exception, match=r"UpdateItem|Connection"):
        steps.publish_aggregates("run", collected)
    assert account_faults.injected() == 1
    assert account.unfinished() == 1
    account_faults.clear()
    assert steps.publish_aggregates("run", collected)["published"] == 1
    assert account.unfinished() == 0
    assert account.shown()["months"] == {"2023-09": [{"star_count": 198, "pull_count": 178_900_000}]}


def test_an_aws_endpoint_out_of_reach_is_named_and_costs_nothing(
    account: DockerHubAccount, configure: Callable[..., Settings], no_retries: None
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    collected = steps.collect("run")
    port = free_port()
    configure(aws_port=port)
    with pytest.raises(EndpointConnectionError, match=f"http://127.0.0.1:{port}"):
        steps.publish_aggregates("run", collected)
    with pytest.raises(EndpointConnectionError, match=f"http://127.0.0.1:{port}"):
        steps.collect("run")
    configure(aws_port=account.settings.aws_port)
    assert account.unfinished() == 1
    assert steps.publish_aggregates("run", collected)["published"] == 1


def test_a_repository_that_cannot_be_written_is_written_by_the_next_run(
    account: DockerHubAccount, before_write: Any
) -> None:
    broken = True

    def refuse_one(operation: str, pk: str) -> None:
        if broken and "#other#" in pk:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

    for name in ("localstack", "other"):
        account.put(*WORKED_EXAMPLE[0], name=name)
    before_write(refuse_one)
    with pytest.raises(ClientError, match="AccessDenied"):
        account.aggregate("run")
    assert account.unfinished() == 2
    broken = False
    account.redeliver("run")
    account.aggregate("next")
    assert account.shown("localstack") == account.shown("other")


def test_dynamodb_may_throttle_every_second_call(account: DockerHubAccount, account_faults: FaultInjection) -> None:
    account.put(*WORKED_EXAMPLE[0])
    account_faults.inject("throttle", service="dynamodb", every=2)
    assert account.aggregate()["published"] == 1
    assert account_faults.injected() >= 4
    assert account.shown()["latest"] == "2023-09-14T15:00:00Z"
    assert account.unfinished() == 0


class Turns:
    """Lets threads make their requests to DynamoDB one at a time, in an order that the seed decides."""

    def __init__(self, seed: int, dies_at: int | None) -> None:
        self.draw = random.Random(seed)
        # From strictly random to one writer held back while another does nearly all of its work.
        self.stays = self.draw.choice([0.0, 0.5, 0.9])
        self.last = ""
        self.requests_left = dies_at
        self.changed = threading.Condition()
        self.running: set[str] = set()
        self.waiting: set[str] = set()
        self.turn: str | None = None

    def request(self, **_: Any) -> None:
        """Wait for this thread's turn; what it did in its last turn is done."""
        me = threading.current_thread().name
        with self.changed:
            if me not in self.running:
                return
            self.waiting.add(me)
            self._next()
            assert self.changed.wait_for(lambda: self.turn == me, timeout=30)
            self.turn = None
            self.waiting.remove(me)
        if me == "writer-0" and self.requests_left is not None:
            self.requests_left -= 1
            if self.requests_left < 0:
                raise Killed

    def _next(self) -> None:
        if self.turn is None and self.waiting == self.running and self.waiting:
            if self.last not in self.waiting or self.draw.random() >= self.stays:
                self.last = self.draw.choice(sorted(self.waiting))
            self.turn = self.last
            self.changed.notify_all()

    def play(self, *writers: Callable[[], None]) -> None:
        """Run the writers to their ends."""
        errors: list[BaseException] = []

        def run(write: Callable[[], None], me: str) -> None:
            try:
                write()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)
            finally:
                with self.changed:
                    self.running.remove(me)
                    self._next()

        names = [f"writer-{number}" for number in range(len(writers))]
        self.running = set(names)
        threads = [
            threading.Thread(target=run, args=(write, name), name=name)
            for write, name in zip(writers, names, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


@pytest.fixture
def interleave(account: DockerHubAccount) -> Iterator[Callable[..., None]]:
    """Run writers so that their requests alternate as a seed decides; the first may die before its n-th."""
    registered: list[Any] = []
    dynamodb = client("dynamodb")

    def play(seed: int, *writers: Callable[[], None], dies_at: int | None = None) -> None:
        turns = Turns(seed, dies_at)
        dynamodb.meta.events.register("before-call.dynamodb", turns.request)
        registered.append(turns.request)
        turns.play(*writers)
        dynamodb.meta.events.unregister("before-call.dynamodb", registered.pop())

    yield play
    for each in registered:
        dynamodb.meta.events.unregister("before-call.dynamodb", each)


def batches_of(objects: list[RawObject], draw: random.Random) -> tuple[list[RawObject], ...]:
    return draw.choice(
        [
            (objects[:4], objects[4:]),
            (objects[4:], objects[:4]),
            (objects[::2], objects[1::2]),
            (objects, objects[::-1]),
            (objects[:2], objects[2:4], objects[4:]),
        ]
    )


def writers_of(settings: Settings, batches: Sequence[list[RawObject]]) -> list[Callable[[], None]]:
    pk = partition_key(batches[0][0].stats)
    return [partial(steps._write_repository, settings, pk, batch, now=NOW, rebuild=False) for batch in batches]


@pytest.mark.parametrize("dying", [False, True], ids=["all live", "one dies"])
def test_writers_at_once_end_in_the_items_of_one(
    account: DockerHubAccount, interleave: Callable[..., None], dying: bool
) -> None:
    names = [repository(seed) for seed in range(40)]
    for seed, name in enumerate(names):
        draw = random.Random(seed)
        writers = writers_of(
            account.settings, batches_of([an_object(*each, name=name) for each in WORKED_EXAMPLE], draw)
        )
        interleave(seed, *writers, dies_at=draw.randrange(8) if dying else None)
        if dying:
            # Its messages come again.
            writers[0]()
    assert {name: account.shown(name) for name in names} == dict.fromkeys(names, WORKED_RESULT)


def test_the_marker_never_moves_back_for_any_last_writer(account: DockerHubAccount) -> None:
    table = account.settings.dockerhub_table
    start = datetime(2023, 9, 14, 15, tzinfo=UTC)
    moments = [start + timedelta(milliseconds=250 * number) for number in range(40)]
    objects = [
        an_object(f"{moment:%Y_%m_%d_%H%M%S}", 1, 2, f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}", name="localstack")
        for moment in moments
    ]
    random.Random(1).shuffle(objects)
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.extend(item["last_updated_us"] for item in account.items().values())

    looker = threading.Thread(target=look)
    looker.start()
    in_parallel(lambda each: storage.move_marker(table, each, NOW), objects)
    done.set()
    looker.join()
    assert seen == sorted(seen)
    (marker,) = account.items().values()
    assert marker["last_updated_us"] == epoch_microseconds(moments[-1])
    assert marker["last_updated"] == f"{moments[-1]:%Y-%m-%dT%H:%M:%S.%fZ}"


def decided_by_what_is_gone(account: DockerHubAccount, name: str) -> str:
    """A repository of which the object that decided September is gone; its partition key."""
    gone = an_object("2023_09_30_000000", 999, 999_999_999, "2023-09-20T00:00:00Z", name=name)
    pk = partition_key(gone.stats)
    steps._write_repository(account.settings, pk, [gone], now=NOW, rebuild=False)
    return pk


def test_a_rebuild_that_races_with_an_aggregation_loses_neither(
    account: DockerHubAccount, interleave: Callable[..., None]
) -> None:
    account.silence()
    names = [repository(seed) for seed in range(12)]
    for seed, name in enumerate(names):
        pk = decided_by_what_is_gone(account, name)
        there = [an_object(*each, name=name) for each in WORKED_EXAMPLE]
        for each in WORKED_EXAMPLE:
            account.put(*each, name=name)
        # October arrives after the rebuild has listed raw/.
        rebuild = partial(steps._write_repository, account.settings, pk, there[:4], now=NOW, rebuild=True)
        aggregate = partial(steps._write_repository, account.settings, pk, there[4:], now=NOW, rebuild=False)
        interleave(seed, rebuild, aggregate)
    shown = [account.shown(name) for name in names]
    assert [each["months"] for each in shown] == [WORKED_MONTHS] * len(names)
    assert {each["latest"] for each in shown} == {WORKED_RESULT["latest"]}


def test_a_greater_object_that_arrives_during_a_rebuild_is_not_replaced(
    account: DockerHubAccount, interleave: Callable[..., None]
) -> None:
    account.silence()
    greater = ("2023_09_30_120000", 300, 300_000_000, "2023-09-30T12:00:00Z")
    names = [repository(seed) for seed in range(12)]
    for seed, name in enumerate(names):
        pk = decided_by_what_is_gone(account, name)
        for each in (*WORKED_EXAMPLE[:2], greater):
            account.put(*each, name=name)
        there = [an_object(*each, name=name) for each in (*WORKED_EXAMPLE[:2], greater)]
        rebuild = partial(steps._write_repository, account.settings, pk, there[:2], now=NOW, rebuild=True)
        aggregate = partial(steps._write_repository, account.settings, pk, there[2:], now=NOW, rebuild=False)
        interleave(seed, rebuild, aggregate)
    months = {"2023-09": [{"star_count": 300, "pull_count": 300_000_000}]}
    assert [account.shown(name)["months"] for name in names] == [months] * len(names)


def test_an_object_deleted_before_it_is_read_is_quarantined_alone(account: DockerHubAccount) -> None:
    keys = [account.put(*each) for each in WORKED_EXAMPLE]
    client("s3").delete_object(Bucket=account.settings.lake_bucket, Key=keys[3])
    assert account.aggregate() == {"records_in": 5, "published": 4, "duplicates": 0, "quarantined": 1}
    assert account.quarantined() == {f"s3://{account.settings.lake_bucket}/{keys[3]}": "object_missing"}
    assert not s3.object_exists(account.settings.lake_bucket, keys[3])
    assert account.shown()["months"]["2023-09"] == [{"star_count": 200, "pull_count": 180_000_000}]
