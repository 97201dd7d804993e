"""A fleet of modules with losses, resets, late, duplicated and out-of-order messages, repeatable by a seed.

`generate` is pure and returns the expected rate of each diagnostic; `produce` publishes the weeks to the topics.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import click

from sluice.aws import sns
from sluice.aws.threads import in_parallel
from sluice.core.commands import AwsCommand
from sluice.core.console import console
from sluice.pipelines.modules.records import SPELLINGS, TIMESTAMP_MAX
from sluice.settings import load_settings
from sluice_dev.samples.options import COUNT, SHARE
from sluice_dev.samples.sample import Sample, Trigger

SAMPLE_MODULES = 500
SAMPLE_WEEKS = 4
SAMPLE_ATTEMPTS = 3
"""A fleet of modules, how long it is on the air, and how often each transmits in a week."""

MODULES_MAX_MESSAGES = 5_000
"""Messages that a run of modules_diagnostics takes: the emulator's queues slow down with what is in flight."""

TALLY_TASKS = {"modules_diagnostics": "publish_rates"}
ENVIRONMENT = {"SLUICE_MODULES_MAX_MESSAGES": str(MODULES_MAX_MESSAGES)}

WEEK_MS = 7 * 24 * 3600 * 1000
OUT_OF_ORDER_MS = 3600 * 1000
"""Maximum time by which a message overtakes earlier ones; a late one arrives any time before the diagnostic."""

START = datetime(2024, 4, 1, tzinfo=UTC)

Kind = Literal["message", "late", "duplicate", "malformed", "diagnostic"]


@dataclass(frozen=True)
class Fleet:
    """What to generate.

    Attributes:
        modules: how many.
        weeks: diagnostics of each module.
        attempts: transmissions of a module in a week, on average.
        losses: share of transmissions that never arrive.
        resets: share of weeks in which a module starts to count anew.
        duplicates: share of messages and diagnostics that are sent twice.
        late: share of messages that come long after they were made, but before the diagnostic that counts them.
        malformed: share of messages that are followed by one that must be rejected.
        start: begin of the first week.
        seed: the same seed gives the same fleet; it is a part of the module ids.
    """

    modules: int = 100
    weeks: int = 4
    attempts: int = 6
    losses: float = 0.1
    resets: float = 0.1
    duplicates: float = 0.05
    late: float = 0.05
    malformed: float = 0.01
    start: datetime = START
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("losses", "resets", "duplicates", "late", "malformed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {getattr(self, name)}")
        if min(self.modules, self.weeks, self.attempts) < 1:
            raise ValueError("a fleet has at least one module, one week and one attempt")


class Sent(NamedTuple):
    """One message to a topic, and what it is."""

    kind: Kind
    body: str


class Week(NamedTuple):
    """What the fleet sends in a week: its messages, then its diagnostics, each in the order of sending.

    `rates` is (module, timestamp) -> expected rate in percent.
    """

    messages: list[Sent]
    diagnostics: list[Sent]
    rates: dict[tuple[str, int], float]


@dataclass
class Counters:
    """Transmissions of a module since it was reset."""

    attempts: int = 0
    received: int = 0


@dataclass(frozen=True)
class Produced:
    """What was sent: how many of each `Kind`, the true rates, and the time that it took."""

    counts: dict[str, int]
    rates: dict[tuple[str, int], float]
    seconds: float


def generate(fleet: Fleet) -> Iterator[Week]:
    """The weeks of a fleet."""
    chance = random.Random(fleet.seed)
    modules = {f"fleet-{fleet.seed}-module-{number:05d}": Counters() for number in range(fleet.modules)}
    start_ms = round(fleet.start.timestamp() * 1000)
    for week in range(fleet.weeks):
        begin_ms = start_ms + week * WEEK_MS
        yield _generate_week(fleet, chance, modules, begin_ms)


def _generate_week(fleet: Fleet, chance: random.Random, modules: dict[str, Counters], begin_ms: int) -> Week:
    end_ms = begin_ms + WEEK_MS
    arrivals: list[tuple[float, Sent]] = []
    diagnostics: list[Sent] = []
    rates: dict[tuple[str, int], float] = {}
    for module_id, counters in modules.items():
        for timestamp in _transmissions(fleet, chance, counters, begin_ms):
            arrivals += _arrivals(fleet, chance, module_id, timestamp, end_ms)
        sent = Sent("diagnostic", _body(chance, module_id, end_ms, {"attempts": counters.attempts}))
        diagnostics.append(sent)
        if chance.random() < fleet.duplicates:
            diagnostics.append(sent._replace(kind="duplicate"))
        rates[module_id, end_ms] = 100 * counters.received / counters.attempts
    chance.shuffle(diagnostics)
    return Week([sent for _, sent in sorted(arrivals, key=lambda each: each[0])], diagnostics, rates)


def _transmissions(fleet: Fleet, chance: random.Random, counters: Counters, begin_ms: int) -> list[int]:
    """Timestamps of the messages of a module that get through in a week; counts them."""
    attempts = chance.randint(1, 2 * fleet.attempts - 1)
    if counters.attempts > 1 and chance.random() < fleet.resets:
        # A reset is visible only by a smaller count than before.
        attempts = min(attempts, chance.randint(1, counters.attempts - 1))
        counters.attempts = counters.received = 0
    counters.attempts += attempts
    made = [begin_ms + offset for offset in chance.sample(range(1, WEEK_MS + 1), attempts)]
    received = [timestamp for timestamp in made if chance.random() >= fleet.losses]
    counters.received += len(received)
    return received


def _arrivals(
    fleet: Fleet, chance: random.Random, module_id: str, timestamp: int, end_ms: int
) -> Iterator[tuple[float, Sent]]:
    """When a message arrives, as often as it does, all before the end of its week."""
    sent = Sent("message", _body(chance, module_id, timestamp, {}))
    arrived = min(timestamp + chance.uniform(0, OUT_OF_ORDER_MS), end_ms)
    if chance.random() < fleet.late:
        sent, arrived = sent._replace(kind="late"), chance.uniform(arrived, end_ms)
    yield arrived, sent
    if chance.random() < fleet.duplicates:
        yield chance.uniform(arrived, end_ms), sent._replace(kind="duplicate")
    if chance.random() < fleet.malformed:
        yield arrived, Sent("malformed", _malformed(chance, module_id, timestamp))


def _body(chance: random.Random, module_id: str, timestamp: int, more: dict[str, object]) -> str:
    return json.dumps({chance.choice(SPELLINGS): module_id, "timestamp": timestamp} | more)


def _malformed(chance: random.Random, module_id: str, timestamp: int) -> str:
    """A message that no careful reader takes for one."""
    good: dict[str, object] = {"moduleId": module_id, "timestamp": timestamp}
    broken: list[str | dict[str, object]] = [
        "not json",
        "null",
        json.dumps(good)[:-3],
        {"moduleId": module_id},
        {"timestamp": timestamp},
        good | {"timestamp": -timestamp},
        good | {"timestamp": timestamp + 0.5},
        good | {"timestamp": str(timestamp)},
        good | {"timestamp": TIMESTAMP_MAX + 1},
        good | {"moduleId": ""},
        good | {"moduleId": "m" * 5000},
        good | {"moduleId": "a\x00b"},
        good | {"moduleid": f"{module_id}-other"},
    ]
    chosen = chance.choice(broken)
    return chosen if isinstance(chosen, str) else json.dumps(chosen)


def true_rates(fleet: Fleet) -> dict[tuple[str, int], float]:
    """(module, timestamp) -> rate in percent, of every diagnostic of the fleet."""
    return {key: rate for week in generate(fleet) for key, rate in week.rates.items()}


def produce(fleet: Fleet, progress: Callable[[int], object] | None = None) -> Produced:
    """Publish the weeks of a fleet: the messages of a week before its diagnostics.

    Args:
        fleet: what to generate.
        progress: called with the number of records of each batch that was published.

    Raises:
        PublishFailed: see `sluice.aws.sns`.
    """
    settings = load_settings()
    messages_arn, diagnostics_arn = map(sns.topic_arn, (settings.recv_message_queue, settings.weekly_diagnostic_queue))
    counts: Counter[str] = Counter(dict.fromkeys(get_args(Kind), 0))
    rates: dict[tuple[str, int], float] = {}
    began = time.monotonic()

    def publish(arn: str, records: Sequence[Sent]) -> None:
        def publish_batch(start: int) -> None:
            batch = records[start : start + sns.BATCH_SIZE]
            sns.publish_batch(arn, [each.body for each in batch])
            if progress:
                progress(len(batch))

        in_parallel(publish_batch, range(0, len(records), sns.BATCH_SIZE))

    for week in generate(fleet):
        publish(messages_arn, week.messages)
        publish(diagnostics_arn, week.diagnostics)
        counts.update(each.kind for each in (*week.messages, *week.diagnostics))
        rates |= week.rates
    return Produced(dict(counts), rates, time.monotonic() - began)


Command = TypeVar("Command", bound=Callable[..., Any])

EXAMPLES = 5
"""Rates that a message shows."""


def fleet_options(command: Command) -> Command:
    """The options that describe a fleet, but for its seed."""
    for option in (
        click.option("--malformed", default=0.01, show_default=True, type=SHARE, help="Share followed by a bad one."),
        click.option("--late", default=0.05, show_default=True, type=SHARE, help="Share that comes late."),
        click.option("--duplicates", default=0.05, show_default=True, type=SHARE, help="Share that comes twice."),
        click.option("--resets", default=0.1, show_default=True, type=SHARE, help="Share of weeks with a reset."),
        click.option("--losses", default=0.1, show_default=True, type=SHARE, help="Share that never arrives."),
        click.option("--attempts", default=6, show_default=True, type=COUNT, help="Transmissions a module and week."),
        click.option("--weeks", default=4, show_default=True, type=COUNT, help="Diagnostics of each module."),
        click.option("--modules", default=100, show_default=True, type=COUNT, help="Size of the fleet."),
    ):
        command = option(command)
    return command


@click.command("modules", cls=AwsCommand)
@fleet_options
@click.option("--seed", type=int, help="Same seed and options: same fleet. At random if not given.")
def produce_modules(seed: int | None, **options: Any) -> None:
    """Publish the messages and weekly diagnostics of a fleet, with known losses and resets."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    fleet = Fleet(**options, seed=secrets.randbelow(2**32) if seed is None else seed)
    with Progress(TextColumn("records"), BarColumn(), MofNCompleteColumn(), console=console(), transient=True) as bar:
        task = bar.add_task("records", total=None)
        made = produce(fleet, lambda records: bar.advance(task, records))
    counts = made.counts
    records = sum(counts.values())
    click.echo(
        f"{records} records in {made.seconds:.1f} s ({records / made.seconds:.0f}/s), seed {fleet.seed}:"
        f" {counts['message'] + counts['late']} messages ({counts['late']} late), {counts['diagnostic']} diagnostics,"
        f" {counts['duplicate']} duplicates, {counts['malformed']} malformed"
    )


@click.command("check-modules", cls=AwsCommand)
@fleet_options
@click.option("--seed", type=int, required=True, help="Of the fleet that was produced.")
def check_modules(seed: int, **options: Any) -> None:
    """Compare every published rate of a fleet with the expected one; fails if one differs."""
    from sluice.pipelines.modules import storage

    truth = true_rates(Fleet(**options, seed=seed))
    found = {
        (each.module_id, each.timestamp): each.judged.success_rate
        for each in storage.read_all_diagnostics(load_settings().modules_diagnostic_table)
        if each.judged
    }
    wrong = [key for key, rate in truth.items() if found.get(key) != rate]
    click.echo(f"{len(truth) - len(wrong)} of {len(truth)} published rates equal the true rate exactly")
    if wrong:
        examples = [f"  {key[0]} at {key[1]}: {found.get(key)}, should be {truth[key]}" for key in wrong[:EXAMPLES]]
        raise click.ClickException("\n".join([f"{len(wrong)} rates differ or are missing:", *examples]))


COMMANDS = (produce_modules, check_modules)
"""Commands of `sluice produce`."""


def sample(now: datetime, *, live: bool) -> Sample:  # noqa: ARG001
    """Messages and diagnostics of a fleet, with losses, resets, late, duplicated and shuffled ones."""
    from sluice.pipelines.modules import storage
    from sluice.settings import load_settings

    # Another fleet each time: a fleet that was there already would only show that nothing is published twice.
    rates = produce(
        Fleet(modules=SAMPLE_MODULES, weeks=SAMPLE_WEEKS, attempts=SAMPLE_ATTEMPTS, seed=int(now.timestamp()))
    ).rates
    settings = load_settings()

    def check() -> tuple[str, bool]:
        found = {
            (each.module_id, each.timestamp): each.judged.success_rate
            for each in storage.read_all_diagnostics(settings.modules_diagnostic_table)
            if each.judged
        }
        right = sum(found.get(key) == rate for key, rate in rates.items())
        return f"{right:,} of {len(rates):,} published rates equal the true rate exactly", right == len(rates)

    return Sample([[Trigger("modules_diagnostics")]], "sluice modules show", check)
