"""Sample data of every pipeline for `sluice demo`, and what must have come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

PULLS = 3
"""Each pull moves the stand-in's history one step on."""

REPOSITORIES = (
    "localstack/localstack,library/redis,library/postgres,apache/airflow,grafana/grafana,"
    "faulty/no-fraction,faulty/html,faulty/wrong-type,missing/gone"
)
"""What the demo watches; the last three cannot be read and show the quarantine."""

EVENTS = 30_000
"""Events of the demo, a tenth of them duplicates, late or malformed."""

MODULES = 500
WEEKS = 4
ATTEMPTS = 3
"""A fleet of modules, how long it is on the air, and how often each transmits in a week."""

MODULES_MAX_MESSAGES = 5_000
"""Messages that a run of modules_diagnostics takes: the emulator's queues slow down with what is in flight."""

ACCOMMODATIONS = 5_000
"""Accommodations of six partners, a third of them with more than one."""

DATASET = "demo"
DATASET_ROWS = 20_000


class Trigger(NamedTuple):
    """A run to make: its Dag and its `conf`."""

    dag_id: str
    conf: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """The data of one pipeline is where the pipeline takes it from.

    Attributes:
        stages: runs to trigger; each stage waits until the Dags of this pipeline are idle.
        waiting: counts the messages that are left in the work queues; the last stage is repeated while that makes them
            fewer, since how many a run takes depends on how fast the machine is.
        look: a command that shows what was published.
        check: compares what was published with what was produced: (what it says, whether it is so); None where
            nothing is known beforehand.
    """

    stages: Sequence[Sequence[Trigger]]
    look: str
    check: Callable[[], tuple[str, bool]] | None = None
    waiting: Callable[[], int] = lambda: 0

    @property
    def dag_ids(self) -> frozenset[str]:
        """The Dags of all stages."""
        return frozenset(trigger.dag_id for stage in self.stages for trigger in stage)


def of_every_pipeline(*, live: bool) -> list[Sample]:
    """Put the data of every pipeline where it takes it from; `live` asks the real Docker Hub only once."""
    now = datetime.now(UTC)
    return [dockerhub(1 if live else PULLS), events(now), modules(now), accommodations(now), datasets(now)]


def dockerhub(pulls: int) -> Sample:
    """Pulls of the stand-in, or of Docker Hub itself, and their aggregation."""
    stages = [[Trigger("dockerhub_pull")] * pulls, [Trigger("dockerhub_aggregate")]]
    return Sample(stages, "sluice dockerhub show")


def events(now: datetime) -> Sample:
    """Events of the last two full hours, with late ones, through the stream."""
    from sluice.pipelines.events.storage import hour_text, read_hour
    from sluice_dev.samples.events import produce

    until = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    sent = produce(
        rate=EVENTS,
        seconds=1,
        start=until - timedelta(hours=2),
        until=until,
        duplicates=0.08,
        late=0.02,
        malformed=0.01,
        # Other events in each hour's demo, the same when it is repeated within the hour.
        seed=int(until.timestamp()),
        paced=False,
    )
    hours = sorted(sent.truth)

    def check() -> tuple[str, bool]:
        wrong = [hour_text(hour) for hour in hours if read_hour(hour).num_rows < sent.truth[hour]]
        say = f"every event of {len(hours)} hours is in the table once" if not wrong else f"events are missing: {wrong}"
        return say, not wrong

    # The ingest asks for the hours before by itself; the last one is what the schedule would make.
    last = Trigger("events_hourly", {"hour": hours[-1].isoformat()})
    return Sample(
        [[Trigger("events_ingest")], [last]], f"sluice tables read events --partition {hour_text(hours[-1])}", check
    )


def modules(now: datetime) -> Sample:
    """Messages and diagnostics of a fleet, with losses, resets, late, duplicated and shuffled ones."""
    from sluice.aws import sqs
    from sluice.pipelines.modules import storage
    from sluice.settings import load_settings
    from sluice_dev.samples.modules import Fleet, produce

    # Another fleet each time: a fleet that was there already would only show that nothing is published twice.
    rates = produce(Fleet(modules=MODULES, weeks=WEEKS, attempts=ATTEMPTS, seed=int(now.timestamp()))).rates
    settings = load_settings()

    def check() -> tuple[str, bool]:
        found = {
            (each.module_id, each.timestamp): each.judged.success_rate
            for each in storage.read_all_diagnostics(settings.modules_diagnostic_table)
            if each.judged
        }
        right = sum(found.get(key) == rate for key, rate in rates.items())
        return f"{right:,} of {len(rates):,} published rates equal the true rate exactly", right == len(rates)

    def waiting() -> int:
        return sum(
            sum(sqs.queue_counts(name)) for name in (settings.recv_message_queue, settings.weekly_diagnostic_queue)
        )

    return Sample([[Trigger("modules_diagnostics")]], "sluice modules show", check, waiting)


def accommodations(now: datetime) -> Sample:
    """Catalogues of six partners, which overlap, in ten files or fewer."""
    from sluice.aws.tables import reading
    from sluice_dev.samples.accommodations import Catalogues, produce

    what = Catalogues(accommodations=ACCOMMODATIONS, file_records=ACCOMMODATIONS, seed=int(now.timestamp()))
    truth = produce(what, clock=lambda: now).truth

    def check() -> tuple[str, bool]:
        rows = reading.read("accommodations_current", columns=("accommodation_id", "partner_name")).to_pylist()
        found = {row["accommodation_id"]: row["partner_name"] for row in rows}
        right = sum(found.get(key) == partner for key, (partner, _) in truth.items())
        return f"{right:,} of {len(truth):,} accommodations come from the partner that must win", right == len(truth)

    return Sample([[Trigger("accommodations_consolidate")]], "sluice tables read accommodations_current", check)


def datasets(now: datetime) -> Sample:
    """A CSV with malformed rows."""
    from sluice.pipelines.datasets.storage import read_output
    from sluice_dev.samples.datasets import Shape, produce

    made = produce(DATASET, Shape(DATASET_ROWS, malformed=0.02, seed=int(now.timestamp())))

    def check() -> tuple[str, bool]:
        rows, _ = read_output(DATASET)
        counted = sum(row["memory_count"] for row in rows)
        is_right = counted == made.rows - made.malformed
        return f"{counted:,} of {made.rows - made.malformed:,} good rows are in {len(rows)} aggregates", is_right

    return Sample([[Trigger("datasets_aggregate")]], f"sluice datasets show {DATASET}", check)
