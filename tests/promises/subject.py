"""What the suite tests/integration/promises needs of a Dag that publishes, for any pipeline.

A subject delivers records by number. Records of one group, `2k` and `2k + 1`, compete: where only one of them can be
seen, the greater number must win, in any order of arrival. A Dag that reads a whole range in each run has one of
its own for every `RANGE` records.
"""

from __future__ import annotations

import importlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from embedded_aws import deploy_one_stack
from queue_messages import unfinished
from sluice import pipelines
from sluice.aws import s3, sqs
from sluice.aws.sessions import client
from sluice.aws.tables import definitions
from sluice.aws.threads import in_parallel
from sluice.core.tally import COUNTS
from sluice.deployment.deploy import TEMPLATES
from sluice.monitoring.pipelines import find_dag
from sluice.settings import Settings

RANGE = 8

Views: TypeAlias = dict[str, Any]
"""What readers see: name of a table, a topic or a kind of file -> its content, the same for the same records."""


class Promise(StrEnum):
    """A promise of docs/guarantees.md that every Dag that publishes keeps, or says why it cannot apply."""

    DUPLICATES = "duplicates"
    LATE = "late data"
    POISON = "bad records"
    TALLY = "sum of the tally"
    RETRIES = "retries"
    CLEARS = "cleared runs"
    KILLS = "kills"
    TWO_RUNS = "two runs at once"


class Subject(ABC):
    """A Dag in an account of its own.

    Attributes:
        dag_id: the Dag; the name of its pipeline comes before the first underscore.
        modules: modules of the pipeline that have its steps.
        steps: functions that its tasks call, in their order.
        gate: the one of them that only checks.
        publishes: the one from which on readers may see something.
        tally_of: the one that returns the tally.
        reads_anew: whether each run reads its whole range, so that there is always something to do.
        whole: views of which a reader sees all of a run or nothing.
        yields: errors with which the slower of two runs may leave the work to the next one.
        batch_tally: tally of a run over records 2 with a bad one and 4, of which 2 was delivered twice.
        fewest_writes: a run has more of them than this.
        exceptions: promises that cannot apply, and why.
    """

    dag_id: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ("steps",)
    steps: ClassVar[tuple[str, ...]]
    gate: ClassVar[str]
    publishes: ClassVar[str] = "publish"
    tally_of: ClassVar[str] = "publish"
    reads_anew: ClassVar[bool] = False
    whole: ClassVar[tuple[str, ...]] = ()
    yields: ClassVar[tuple[type[Exception], ...]] = ()
    batch_tally: ClassVar[dict[str, int]]
    fewest_writes: ClassVar[int]
    exceptions: ClassVar[Mapping[Promise, str]] = {}

    def __init__(self, settings: Settings, journal: Path) -> None:
        self.settings = settings
        self.pipeline = self.dag_id.partition("_")[0]
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.delivered: set[int] = set()
        self.bad_records = 0
        self._read: dict[s3.ListedObject, bytes] = {}
        self.journal = journal
        journal.touch()
        self._note_received()

    # What a pipeline says of itself

    @classmethod
    def settings_changed(cls) -> dict[str, object]:
        """Settings that differ from the defaults."""
        return {}

    def deploy(self) -> None:
        """Make the buckets, the stack and the tables of the pipeline."""
        for bucket in (self.settings.lake_bucket, self.settings.landing_bucket):
            client("s3").create_bucket(Bucket=bucket)
        client("glue").create_database(DatabaseInput={"Name": self.settings.glue_database})
        if (TEMPLATES / f"{self.pipeline}.yaml").exists():
            deploy_one_stack(self.settings, self.pipeline)
        declared = next(each for each in pipelines.declared(self.settings) if each.name == self.pipeline)
        definitions.create_missing(self.settings, declared.tables())

    def close(self) -> None:  # noqa: B027
        """Stop what the test process started."""

    @abstractmethod
    def send(self, number: int, *, bad: bool = False) -> None:
        """Let a record arrive, where `bad` with a bad record beside it."""

    @abstractmethod
    def send_again(self, number: int) -> None:
        """Let a record arrive once more, as a source that delivers at least once does; nothing where none can."""

    @abstractmethod
    def send_late(self, number: int) -> Callable[[], None]:
        """Make a record at its source; what is returned lets it arrive."""

    @abstractmethod
    def published(self) -> Views:
        """What readers see now."""

    @abstractmethod
    def expected(self, numbers: Iterable[int]) -> Views:
        """What readers must see of these records, computed without any code of the pipeline."""

    def run_name(self, run: str) -> str:
        """The name under which a run of the Dag stages."""
        return run

    def next_run(self, run: str) -> dict[str, int]:
        """What starts next by itself after a run that failed; its tally."""
        return self.run(run)

    def settle(self) -> None:  # noqa: B027
        """Check what later runs of other Dags make of what was published."""

    # What the suite does

    def deliver(self, *numbers: int, bad: bool = False) -> None:
        """Let records arrive, where `bad` each with a bad record beside it."""
        for number in numbers:
            self._note({"sent": number})
            self.send(number, bad=bad)
            self.delivered.add(number)
            self.bad_records += bad

    def deliver_late(self, number: int) -> Callable[[], None]:
        """Make a record at its source; what is returned lets it arrive."""
        arrive = self.send_late(number)
        self.delivered.add(number)
        return arrive

    def run(self, run: str, *, gated: bool = False) -> dict[str, int]:
        """One run of the Dag; its tally, empty when there was nothing to do."""
        return self._run_steps(run, self.steps, gated)

    def start(self, run: str) -> None:
        """The tasks of a run before anything is published."""
        self._run_steps(run, self.steps[: self.steps.index(self.publishes)], gated=False)

    def finish(self, run: str) -> dict[str, int]:
        """The tasks after those of `start`; the tally."""
        return self._run_steps(run, self.steps[self.steps.index(self.publishes) :], gated=False)

    def retry(self, run: str) -> None:
        """Run the task again at which a run was killed, then those after it."""
        done = [note["done"] for note in self._notes() if note.get("run") == run]
        tasks = [name for name in self.steps if name != self.gate]
        if not done or self.returned(run, done[0]):
            self._run_steps(run, tasks[len(done) :], gated=False)

    def step(self, name: str, run: str) -> Any:
        """One task of a run."""
        found = [importlib.import_module(f"sluice.pipelines.{self.pipeline}.{module}") for module in self.modules]
        function = next(getattr(module, name) for module in found if hasattr(module, name))
        known = self.arguments(run)
        wanted = inspect.signature(function).parameters
        returned = function(self.run_name(run), **{key: known[key] for key in wanted if key in known})
        self._note({"run": run, "done": name, "returned": returned})
        return returned

    def arguments(self, run: str) -> dict[str, Any]:
        """What steps may be given besides their run; tasks hand on what the first one returned."""
        first = self.returned(run, self.steps[0])
        return {"clock": self.clock, "counts": first, "fetched": first}

    def returned(self, run: str, step: str) -> Any:
        """What a step of a run returned last."""
        notes = [note for note in self._notes() if (note.get("run"), note.get("done")) == (run, step)]
        return notes[-1]["returned"] if notes else None

    def last_sent(self) -> int:
        """The record that arrived last, also in a process that is killed."""
        sent: list[int] = [note["sent"] for note in self._notes() if "sent" in note]
        return sent[-1]

    def clock(self) -> datetime:
        """A second later each time that it is asked."""
        self.now += timedelta(seconds=1)
        return self.now

    def redeliver(self) -> None:
        """What SQS does when the visibility timeout of all that any run received ends."""
        handles: dict[str, list[str]] = {}
        for note in self._notes():
            if "queue" in note:
                handles.setdefault(note["queue"], []).append(note["handle"])
        done = [json.dumps(note) for note in self._notes() if "queue" not in note]
        self.journal.write_text("".join(f"{line}\n" for line in done))
        for url, received in handles.items():
            sqs.hold_back(url, received, 0)

    @property
    def queues(self) -> tuple[str, ...]:
        """The work queues of the Dag."""
        return find_dag(self.settings, self.dag_id)[1].queues

    def unfinished(self) -> int:
        """Messages of the Dag's queues that are not deleted, received or not."""
        return sum(map(unfinished, self.queues))

    def quarantined(self) -> list[dict[str, Any]]:
        """Every line of the pipeline's quarantine."""
        bodies = self.read_objects(f"quarantine/{self.pipeline}/")
        return [json.loads(line) for body in bodies.values() for line in body.decode().split("\n") if line]

    def read_objects(self, prefix: str) -> dict[str, bytes]:
        """Key -> content of objects of the lake; one is read again only where it has changed."""
        bucket = self.settings.lake_bucket
        listed = s3.list_objects(bucket, prefix)
        new = [each for each in listed if each not in self._read]
        bodies = in_parallel(lambda each: s3.read_object(bucket, each.key).body, new)
        self._read.update(zip(new, bodies, strict=True))
        return {each.key: self._read[each] for each in listed}

    def _run_steps(self, run: str, steps: Iterable[str], gated: bool) -> dict[str, int]:
        tally: dict[str, int] = {}
        for name in steps:
            if name == self.gate and not gated:
                continue
            returned = self.step(name, run)
            if name == self.steps[0] and not returned:
                return {}
            if name == self.tally_of:
                tally = {key: returned[key] for key in COUNTS}
        if tally:
            records_in, *parts = tally.values()
            assert records_in == sum(parts), f"{self.dag_id} {run}: {tally}"
        return tally

    # The journal is a file, so that what a process does that is killed is known as well.

    def _note(self, note: dict[str, Any]) -> None:
        with self.journal.open("ab", buffering=0) as journal:
            journal.write(json.dumps(note, default=str).encode() + b"\n")

    def _notes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def _note_received(self) -> None:
        """Note the handle of every message that is received, also by a run that is killed before it can."""
        receive = client("sqs").receive_message

        def received(**asked: Any) -> Any:
            answer = receive(**asked)
            for message in answer.get("Messages", []):
                self._note({"queue": asked["QueueUrl"], "handle": message["ReceiptHandle"]})
            return answer

        client("sqs").receive_message = received  # type: ignore[method-assign]


def group(number: int) -> int:
    """The group of a record; see the module."""
    return number // 2


def greatest_of_groups(numbers: Iterable[int]) -> dict[int, int]:
    """Group -> its greatest number."""
    return {group(number): number for number in sorted(numbers)}
