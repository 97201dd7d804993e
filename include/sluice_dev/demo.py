"""`sluice demo`: every pipeline on sample data, on the embedded AWS and Airflow, and a table of the results."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sluice.aws import sqs
from sluice.environment import web_url
from sluice.errors import SluiceError
from sluice.monitoring.pipelines import find_dag
from sluice.settings import Settings
from sluice_dev.dockerhub import DockerHubStandIn
from sluice_dev.samples.sample import Sample, Trigger, environment, tally_tasks
from sluice_dev.stack import airflow, lifecycle
from sluice_dev.stack.airflow_api import ENDED, UNDER_WAY, AirflowApi, DagRun

COUNTS = ("records_in", "published", "duplicates", "quarantined")

SERVICES = ("api-server", "scheduler", "dag-processor")
"""All but the triggerer: the demo triggers every run itself."""

ENVIRONMENT = {
    # Only what the demo triggers: at the first start of a scheduler every schedule has a run that is due.
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    # Dag files do not change meanwhile.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
}
"""Variables of the services that the demo starts, which differ from those of `sluice up`."""

POLL_SECONDS = 0.5
IDLE_POLLS = 2
"""Polls in a row without a run under way, after which a stage has ended: one run may ask for another."""

DAGS_TIMEOUT_SECONDS = 60
TIMEOUT_SECONDS = 1200


class DemoFailed(SluiceError):
    """A pipeline of the demo failed."""


@dataclass
class Interrupts:
    """What ctrl-C, a terminal that is closed and `kill` do.

    Attributes:
        stopping: set by the signal while it is deferred.
        deferred: whether the signal only sets `stopping`. Needed once services are started: an exception between the
            start of a process and its record would leave the process behind.
    """

    stopping: threading.Event = field(default_factory=threading.Event)
    deferred: bool = False

    def take(self, *_: object) -> None:
        """Handle a signal."""
        self.stopping.set()
        if not self.deferred:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise what was deferred."""
        if self.stopping.is_set():
            raise KeyboardInterrupt


def run(settings: Settings, console: Console, produce: Callable[[], list[Sample]], *, live: bool) -> None:
    """Put sample data, have the pipelines process it on the stack, print the table.

    A stack of this SLUICE_HOME that runs already is used; else the services of Airflow are started, and ended again.
    The embedded AWS and PostgreSQL keep running.

    Args:
        settings: the settings of this process.
        console: where to say what happens.
        produce: puts the sample data (`sample.of_every_pipeline`).
        live: pull from the real Docker Hub instead of its stand-in.

    Raises:
        DemoFailed: a run failed, or what was published is not what was produced.
        StackFailed: a service did not start, or ended.
    """
    with deferrable_interrupts() as interrupts, ExitStack() as undo:
        try:
            undo.enter_context(lifecycle.exclusive(settings))
        except lifecycle.IsUp:
            web_ui = web_url(settings)
            console.print(f"Using the stack that is up: {web_ui}")
            api = _api(settings)
            since = datetime.now(UTC)
            with console.status("sample data"):
                made = produce()
            tallies = play(api, made, since, settings, console, interrupts.check)
        else:
            web_ui = "[bold]make up[/], then open the address that it prints"
            since = datetime.now(UTC)
            running, made = _start(settings, console, undo, interrupts, produce, live=live)

            def check() -> None:
                interrupts.check()
                running.require_running()

            tallies = play(_api(settings), made, since, settings, console, check)
    console.print(summary(tallies))
    _compare(made, console)
    for sample in made:
        console.print(f"  look   .venv/bin/{sample.look}")
    console.print("  look   .venv/bin/sluice status")
    console.print()
    console.print(f"The web UI with these runs: {web_ui}")
    console.print("Stop everything: [bold]make down[/]")


@contextmanager
def deferrable_interrupts() -> Iterator[Interrupts]:
    """Handle ctrl-C, a closed terminal and `kill` in the same way, for as long as the context lasts."""
    interrupts = Interrupts()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupts.take) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(
    settings: Settings,
    console: Console,
    undo: ExitStack,
    interrupts: Interrupts,
    produce: Callable[[], list[Sample]],
    *,
    live: bool,
) -> tuple[lifecycle.Stack, list[Sample]]:
    """Start what the demo needs, with the sample data put before the services; `undo` ends the services."""
    made: list[Sample] = []
    stand_in = None if live else undo.enter_context(DockerHubStandIn())

    def put_data() -> dict[str, str]:
        with console.status("sample data"):
            made.extend(produce())
        interrupts.deferred = True
        return ENVIRONMENT | environment() | ({"SLUICE_DOCKERHUB_URL": stand_in.url} if stand_in else {})

    def end_services() -> None:
        with console.status("ending the services of Airflow"):
            lifecycle.end_services(settings)

    undo.callback(end_services)
    with ExitStack() as undo_start:
        running = lifecycle.start(
            settings,
            console,
            undo_start,
            services=SERVICES,
            extra_environment=put_data,
            stopping=interrupts.stopping,
        )
        undo_start.pop_all()
    return running, made


def _api(settings: Settings) -> AirflowApi:
    return AirflowApi(web_url(settings), airflow.USER, airflow.password(settings))


def play(
    api: AirflowApi,
    made: Sequence[Sample],
    since: datetime,
    settings: Settings,
    console: Console,
    check: Callable[[], None],
) -> dict[str, Counter[str]]:
    """Trigger the runs of every pipeline, the pipelines side by side, and wait until all have ended.

    Args:
        api: of an Airflow whose scheduler runs.
        made: the sample data.
        since: only runs that ended then or later are counted: one that had started may have taken the data.
        settings: where the logs of tasks are.
        console: where to say what happens.
        check: called repeatedly; raises an error to end the demo early.

    Returns:
        For each Dag: number of `runs`, and the sums of the counts of their tallies.

    Raises:
        DemoFailed: a run failed, or nothing happens.
    """
    pipelines = [Pipeline(sample, partial(count_messages, settings, sample)) for sample in made]
    dag_ids = {dag_id for sample in made for dag_id in sample.dag_ids}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with console.status("Airflow reads the Dags") as status:
        _wait_for_dags(api, dag_ids, check)
        while True:
            active = {run.dag_id for run in api.runs(dag_ids, UNDER_WAY)}
            for pipeline in pipelines:
                if pipeline.is_idle(active):
                    _require_success(api.runs(pipeline.sample.dag_ids, ["failed"], since), settings)
                    for trigger in pipeline.next_stage():
                        api.trigger(*trigger)
            pipelines = [pipeline for pipeline in pipelines if not pipeline.is_done]
            if not pipelines:
                return _tallies(api, api.runs(dag_ids, ENDED, since))
            if time.monotonic() > deadline:
                raise DemoFailed(f"not done after {TIMEOUT_SECONDS // 60} minutes: {', '.join(sorted(active))}")
            status.update(f"Airflow: {', '.join(sorted(active)) or 'runs are triggered'}")
            check()
            time.sleep(POLL_SECONDS)


class Pipeline:
    """The stages of a pipeline that are left.

    Args:
        sample: the sample of the pipeline.
        count_messages: the number of messages in the work queues of its last stage: a run takes a limited number, and
            there may be more than those of the sample.
    """

    def __init__(self, sample: Sample, count_messages: Callable[[], int]) -> None:
        self.sample = sample
        self.count_messages = count_messages
        self.left = list(sample.stages)
        self.idle_polls = IDLE_POLLS
        self.waiting: int | None = None
        self.is_done = False

    def is_idle(self, active: set[str]) -> bool:
        """Whether its Dags are idle for long enough, given those that have a run under way."""
        self.idle_polls = 0 if active & self.sample.dag_ids else self.idle_polls + 1
        return self.idle_polls >= IDLE_POLLS

    def next_stage(self) -> Sequence[Trigger]:
        """What is to be triggered next; nothing when it is done."""
        self.idle_polls = 0
        if self.left:
            return self.left.pop(0)
        waiting = self.count_messages()
        if waiting and (self.waiting is None or waiting < self.waiting):
            self.waiting = waiting
            return self.sample.stages[-1]
        self.is_done = True
        return ()


def count_messages(settings: Settings, sample: Sample) -> int:
    """The number of messages, received or not, in the work queues of the Dags of a sample's last stage."""
    queues = {queue for trigger in sample.stages[-1] for queue in find_dag(settings, trigger.dag_id)[1].queues}
    return sum(sum(sqs.queue_counts(queue)) for queue in queues)


def _wait_for_dags(api: AirflowApi, dag_ids: set[str], check: Callable[[], None]) -> None:
    deadline = time.monotonic() + DAGS_TIMEOUT_SECONDS
    while missing := dag_ids - (found := api.dags()).keys():
        check()
        if time.monotonic() > deadline:
            errors = "\n  ".join(["", *api.import_errors()])
            raise DemoFailed(f"Airflow does not know {', '.join(sorted(missing))}{errors}")
        time.sleep(POLL_SECONDS)
    if paused := sorted(dag_id for dag_id in dag_ids if found[dag_id]):
        raise DemoFailed(
            f"paused, so no run of it would start: {', '.join(paused)}; `sluice airflow dags unpause <Dag>` ends that"
        )


def _require_success(failed: Sequence[DagRun], settings: Settings) -> None:
    if failed:
        first = failed[0]
        logs: Path = settings.home / "logs" / "airflow" / f"dag_id={first.dag_id}" / f"run_id={first.run_id}"
        raise DemoFailed(f"{first.dag_id} {first.run_id} failed; the logs of its tasks are below {logs}")


def _tallies(api: AirflowApi, ended: Sequence[DagRun]) -> dict[str, Counter[str]]:
    tallies: dict[str, Counter[str]] = {}
    for run in ended:
        tally = api.returned(run, tally_tasks()[run.dag_id]) or {}
        counts = tallies.setdefault(run.dag_id, Counter())
        counts.update({"runs": 1} | {name: tally.get(name, 0) for name in COUNTS})
    return tallies


def _compare(made: Sequence[Sample], console: Console) -> None:
    """Say what was published and what was to be.

    Raises:
        DemoFailed: they differ.
    """
    found = [sample.check() for sample in made if sample.check]
    for said, is_right in found:
        console.print(f"  {'[green]right[/]' if is_right else '[red]wrong[/]'}  {said}")
    console.print()
    if not all(is_right for _, is_right in found):
        raise DemoFailed("what was published is not what was produced, see above")


def summary(tallies: dict[str, Counter[str]]) -> Table:
    """One row a Dag: the sums of all its runs. It fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for name in ("pipeline", "runs", *COUNTS):
        table.add_column(name.replace("_", " "), justify="left" if name == "pipeline" else "right", no_wrap=True)
    for dag_id in (each for each in tally_tasks() if each in tallies):
        table.add_row(dag_id, *(f"{tallies[dag_id][name]:,}" for name in ("runs", *COUNTS)))
    return table
