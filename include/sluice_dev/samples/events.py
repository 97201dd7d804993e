"""A producer of events with known shares of duplicates, late and malformed ones, repeatable by a seed.

`generate` is pure and labels each record with the expected result; `produce` puts the records into Kinesis.
"""

from __future__ import annotations

import json
import math
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, NamedTuple
from uuid import UUID

import click

from sluice.aws import kinesis
from sluice.core.commands import AwsCommand
from sluice.core.console import Column, console, print_table
from sluice.settings import load_settings
from sluice_dev.samples.options import MOMENT, POSITIVE, SHARE
from sluice_dev.samples.sample import Sample, Trigger

SAMPLE_EVENTS = 30_000
"""Events of the demo, a tenth of them duplicates, late or malformed."""

TALLY_TASKS = {"events_ingest": "publish_batch", "events_hourly": "publish_hour"}

NAMES = (
    "account:created",
    "account:settings:updated",
    "account:deleted",
    "order:placed",
    "order:item:added",
    "order:item:removed",
    "payment:succeeded",
    "payment:refund:failed",
    "session",
    "lesson:finished",
    ":orphan",
    "job:finished:",
    "compte:créé",
)
"""Three tokens, two, one, none at either end, and unicode."""

COUNTRIES = ("DE", "FR", "IN", "JP", "MX", "US")

RESCUED_EVERY = 50
"""One event in so many has a field whose name cannot be a column, and which is therefore in `rescued_data`."""

LATE_SECONDS = (3600.0, 3 * 3600.0)
"""A late event was created so long before its turn."""

RETRY_SECONDS = 30.0
"""Maximum difference of the time stamp of an event that its sender sends again."""

RECENT = 1000
"""Events that a duplicate is taken from."""

SENDERS = 4
IN_FLIGHT = 8

Kind = Literal["event", "late", "duplicate", "malformed"]


@dataclass(frozen=True)
class Traffic:
    """What to generate.

    Attributes:
        records: how many in all.
        start: `created_at` of the first event (UTC).
        until: `created_at` just behind the last one (UTC).
        duplicates: share of records that repeat an event, exactly, spelled otherwise, or stamped up to 30 s later.
        late: share of records that were created one to three hours before their turn.
        malformed: share of records that must be rejected.
        seed: the same seed gives the same records.
    """

    records: int
    start: datetime
    until: datetime
    duplicates: float = 0.0
    late: float = 0.0
    malformed: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        shares = {"duplicates": self.duplicates, "late": self.late, "malformed": self.malformed}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {share}")
        if sum(shares.values()) > 1:
            raise ValueError(f"the shares are {sum(shares.values()):g} together, more than all records")
        if self.start.tzinfo is None or self.until.tzinfo is None or self.until <= self.start:
            raise ValueError(f"until ({self.until}) must be later than start ({self.start}), both with a time zone")


class Generated(NamedTuple):
    """One record and what it is; `event_uuid` and `created_at` of what is malformed mean nothing."""

    kind: Kind
    entry: kinesis.Entry
    event_uuid: str
    created_at: datetime


@dataclass(frozen=True)
class Produced:
    """What was sent.

    Attributes:
        counts: `records`, `distinct` (valid events), `duplicates`, `late`, `malformed`, `sent_again` (by PutRecords).
        truth: hour (UTC) -> distinct valid events that must end up in it, where the lookback is an hour or more.
        seconds: time that it took.
    """

    counts: dict[str, int]
    truth: dict[datetime, int]
    seconds: float


def generate(traffic: Traffic) -> Iterator[Generated]:
    """The records of the traffic, in the order of their sending."""
    chance = random.Random(traffic.seed)
    names = [json.dumps(name, ensure_ascii=False) for name in NAMES]
    start, length = traffic.start.timestamp(), (traffic.until - traffic.start).total_seconds()
    recent: deque[tuple[str, str, float, str]] = deque(maxlen=RECENT)
    for index in range(traffic.records):
        created = start + length * index / traffic.records
        draw = chance.random()
        event_uuid = str(UUID(int=chance.getrandbits(128), version=4))
        if draw < traffic.malformed:
            entry = kinesis.Entry(event_uuid, _malformed(chance, event_uuid, created))
            yield Generated("malformed", entry, event_uuid, _moment(created))
            continue
        if draw < traffic.malformed + traffic.duplicates and recent:
            event_uuid, name, created, more = recent[chance.randrange(len(recent))]
            spelled = event_uuid
            match chance.randrange(4):
                case 0:
                    created += chance.uniform(0, RETRY_SECONDS)
                case 1:
                    spelled = event_uuid.upper()
            # As a sender does: the shard hangs on the key, and the key on the spelling.
            entry = kinesis.Entry(spelled, _event(spelled, name, created, more))
            yield Generated("duplicate", entry, event_uuid, _moment(created))
            continue
        kind: Kind = "event"
        if 0 <= draw - traffic.malformed - traffic.duplicates < traffic.late:
            kind = "late"
            created -= chance.uniform(*LATE_SECONDS)
        name = chance.choice(names)
        account, country = chance.randrange(100_000), chance.choice(COUNTRIES)
        more = f'"account_id":{account},"country":"{country}","amount":{index % 500}.25'
        if index % RESCUED_EVERY == 0:
            more += f',"client.version":"2.{index % 7}"'
        recent.append((event_uuid, name, created, more))
        entry = kinesis.Entry(event_uuid, _event(event_uuid, name, created, more))
        yield Generated(kind, entry, event_uuid, _moment(created))


def _event(event_uuid: str, name: str, created: float, more: str) -> bytes:
    return f'{{"event_uuid":"{event_uuid}","event_name":{name},"created_at":{created:.6f},{more}}}'.encode()


def _moment(created: float) -> datetime:
    # As the text says it: a float that is cut otherwise may fall into another hour.
    return datetime.fromtimestamp(float(f"{created:.6f}"), UTC)


def _malformed(chance: random.Random, event_uuid: str, created: float) -> bytes:
    """A record that no careful reader takes for an event."""
    good = {"event_uuid": event_uuid, "event_name": "account:created", "created_at": round(created, 6)}
    broken: list[bytes | dict[str, object]] = [
        b"",
        b"not json",
        json.dumps(good).encode()[:-9],
        b'{"event_uuid": "\xff\xfe"}',
        b"null",
        json.dumps([good]).encode(),
        {key: value for key, value in good.items() if key != "event_uuid"},
        {key: value for key, value in good.items() if key != "event_name"},
        {key: value for key, value in good.items() if key != "created_at"},
        good | {"event_uuid": "not-a-uuid"},
        good | {"event_uuid": 7},
        good | {"event_name": ["account", "created"]},
        good | {"created_at": f"{created:.6f}"},
        good | {"created_at": "2024-04-07T17:42:01Z"},
        good | {"created_at": True},
        good | {"created_at": None},
        good | {"created_at": -5.0},
        good | {"created_at": round(created * 1000)},
        good | {"created_at": 32503680000.0 + chance.random()},
    ]
    chosen = chance.choice(broken)
    return chosen if isinstance(chosen, bytes) else json.dumps(chosen).encode()


def hour_of(moment: datetime) -> datetime:
    """The start of the hour that a moment is in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def produce(
    *,
    rate: float = 100.0,
    seconds: float = 60.0,
    duplicates: float = 0.05,
    late: float = 0.02,
    malformed: float = 0.01,
    seed: int = 0,
    start: datetime | None = None,
    until: datetime | None = None,
    paced: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Produced:
    """Put `rate * seconds` records into the event stream.

    Args:
        rate: records a second.
        seconds: for how long.
        duplicates: share of duplicates; see `Traffic`.
        late: share of late events.
        malformed: share of records that must be rejected.
        seed: the same seed, start and until give the same records.
        start: `created_at` of the first event (UTC); None for now.
        until: `created_at` just behind the last one (UTC); None for `seconds` after start.
        paced: keep to the rate; False to send as fast as Kinesis takes them.
        progress: called with the number of records of each batch that was put.

    Raises:
        ValueError: a share is out of range, or `until` is not after `start`.
        ResourceMissing: no such stream.
        PutFailed: see `sluice.aws.kinesis`.
    """
    stream = load_settings().events_stream
    start = start or datetime.now(UTC)
    if until is None:
        until = datetime.fromtimestamp(start.timestamp() + seconds, UTC)
    traffic = Traffic(math.ceil(rate * seconds), start, until, duplicates, late, malformed, seed)
    counts: Counter[str] = Counter(records=0, distinct=0, duplicates=0, late=0, malformed=0, sent_again=0)
    truth: Counter[datetime] = Counter()
    records = generate(traffic)
    began = time.monotonic()
    # A tenth of a second's records at a time, so that a slow rate is not a burst every now and then.
    slice_records = min(kinesis.BATCH_RECORDS, max(1, int(rate / 10)))
    flying: dict[Future[int], int] = {}

    def land(done: set[Future[int]]) -> None:
        for each in done:
            counts["sent_again"] += each.result()
            if progress:
                progress(flying[each])
            del flying[each]

    with ThreadPoolExecutor(SENDERS) as pool:
        while chunk := list(islice(records, slice_records)):
            _count(chunk, counts, truth)
            for batch in kinesis.batches(each.entry for each in chunk):
                if len(flying) >= IN_FLIGHT:
                    land(wait(flying, return_when=FIRST_COMPLETED).done)
                flying[pool.submit(kinesis.put_batch, stream, batch)] = len(batch)
            if paced:
                time.sleep(max(0.0, began + counts["records"] / rate - time.monotonic()))
        land(wait(flying).done)
    return Produced(dict(counts), dict(sorted(truth.items())), time.monotonic() - began)


def _count(chunk: list[Generated], counts: Counter[str], truth: Counter[datetime]) -> None:
    for each in chunk:
        counts["records"] += 1
        match each.kind:
            case "malformed":
                counts["malformed"] += 1
            case "duplicate":
                counts["duplicates"] += 1
            case _:
                counts["distinct"] += 1
                counts["late"] += each.kind == "late"
                truth[hour_of(each.created_at)] += 1


@click.command("events", cls=AwsCommand)
@click.option("--rate", default=100.0, show_default=True, type=POSITIVE, help="Records a second.")
@click.option("--seconds", default=60.0, show_default=True, type=POSITIVE, help="For how long.")
@click.option(
    "--duplicates", default=0.05, show_default=True, type=SHARE, help="Share of records that repeat an event."
)
@click.option("--late", default=0.02, show_default=True, type=SHARE, help="Share that is 1 to 3 hours late.")
@click.option("--malformed", default=0.01, show_default=True, type=SHARE, help="Share that is to be rejected.")
@click.option("--seed", type=int, help="Same seed, start and until: same records. At random if not given.")
@click.option("--start", type=MOMENT, help="created_at of the first event; now if not given.")
@click.option("--until", type=MOMENT, help="created_at just behind the last event; start and seconds if not given.")
@click.option("--burst", is_flag=True, help="Send as fast as Kinesis takes them, not at the rate.")
def produce_events(
    rate: float,
    seconds: float,
    duplicates: float,
    late: float,
    malformed: float,
    seed: int | None,
    start: datetime | None,
    until: datetime | None,
    burst: bool,
) -> None:
    """Put events into the stream, with given shares of duplicates, late and malformed ones."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    seed = secrets.randbelow(2**32) if seed is None else seed
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("events", total=round(rate * seconds))
        try:
            made = produce(
                rate=rate,
                seconds=seconds,
                duplicates=duplicates,
                late=late,
                malformed=malformed,
                seed=seed,
                start=start,
                until=until,
                paced=not burst,
                progress=lambda records: bar.advance(task, records),
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    counts = made.counts
    click.echo(
        f"{counts['records']} records in {made.seconds:.1f} s ({counts['records'] / made.seconds:.0f}/s), seed {seed}:"
        f" {counts['distinct']} events ({counts['late']} late), {counts['duplicates']} duplicates,"
        f" {counts['malformed']} malformed"
    )
    rows = [(f"{hour:%Y-%m-%dT%H}", events) for hour, events in made.truth.items()]
    print_table((Column("hour (UTC)", "time"), Column("distinct events", "number")), rows)


COMMANDS = (produce_events,)
"""Commands of `sluice produce`."""


def sample(now: datetime, *, live: bool) -> Sample:  # noqa: ARG001
    """Events of the last two full hours, with late ones, through the stream."""
    from sluice.pipelines.events.storage import hour_text, read_hour

    until = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    sent = produce(
        rate=SAMPLE_EVENTS,
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

    # The ingest requests the earlier hours; the last one is that of the schedule.
    last = Trigger("events_hourly", {"hour": hours[-1].isoformat()})
    return Sample(
        [[Trigger("events_ingest")], [last]], f"sluice tables read events --partition {hour_text(hours[-1])}", check
    )
