"""The producer of partners' files: overlapping catalogues with a share of malformed records, repeatable by a seed.

`generate` is pure and returns the expected result for a demo or a test; `produce` uploads the files.
"""

from __future__ import annotations

import json
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from sluice import lake
from sluice.aws import s3
from sluice.aws.threads import in_parallel
from sluice.core.commands import AwsCommand
from sluice.core.console import Column, console, print_table
from sluice.pipelines.accommodations import storage
from sluice.pipelines.accommodations.records import LANDING_PREFIX, usable_partners
from sluice.settings import load_settings
from sluice_dev.samples.options import COUNT, SHARE
from sluice_dev.samples.sample import Sample, Trigger

SAMPLE_ACCOMMODATIONS = 5_000
"""Accommodations of six partners, a third of them with more than one."""

TALLY_TASKS = {"accommodations_consolidate": "publish"}

CITIES = ("Lisboa", "München", "New York", "京都", "São Paulo", "Ålesund")

REPEATED = 0.02
"""Share of records that the same partner sends again behind, corrected."""


@dataclass(frozen=True)
class Catalogues:
    """What to generate.

    Attributes:
        partners: how many; the last of three or more is on no list.
        accommodations: how many different ones.
        overlap: share of accommodations that other partners have as well, up to three of them.
        malformed: share of records that must be rejected.
        record_bytes: of one record, about.
        file_records: maximum records of one file.
        seed: the same seed gives the same files.
    """

    partners: int = 6
    accommodations: int = 1000
    overlap: float = 0.3
    malformed: float = 0.01
    record_bytes: int = 250
    file_records: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("partners", "accommodations", "file_records", "record_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap is a share between 0 and 1, not {self.overlap}")
        if not 0 <= self.malformed < 1:
            raise ValueError(
                f"malformed is a share from 0 to less than 1, not {self.malformed}: every good record comes"
            )

    @property
    def names(self) -> list[str]:
        """Names of the partners."""
        return [f"partner-{number:02d}" for number in range(1, self.partners + 1)]

    @property
    def priority(self) -> list[str]:
        """The priority list that belongs to them, best first."""
        return self.names[:-1] if self.partners > 2 else self.names


@dataclass(frozen=True)
class GeneratedFile:
    """One file of a partner: its name, its bytes, and how many of its records must be rejected."""

    name: str
    body: bytes
    records: int
    malformed: int


@dataclass(frozen=True)
class Produced:
    """What was dropped.

    Attributes:
        counts: `files`, `records` and `malformed`.
        truth: accommodation -> (partner, accommodation_name) that the current catalogue must have of it, under the
            lists as they are now.
    """

    counts: dict[str, int]
    truth: dict[str, tuple[str, str]]


def generate(what: Catalogues) -> tuple[list[GeneratedFile], dict[str, dict[str, str]]]:
    """The files, and accommodation -> partner -> accommodation_name of its newest record."""
    chance = random.Random(what.seed)
    offered: dict[str, dict[str, str]] = {}
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in what.names}
    for number in range(what.accommodations):
        accommodation_id = f"{what.seed:x}-{number:07d}"
        others = chance.randint(1, 3) if chance.random() < what.overlap else 0
        for partner in chance.sample(what.names, min(1 + others, what.partners)):
            for name in (f"Hotel {number}", f"Hotel {number} by {partner}")[: 1 + (chance.random() < REPEATED)]:
                records[partner].append(_record(chance, accommodation_id, partner, name, what.record_bytes))
                offered.setdefault(accommodation_id, {})[partner] = name
    files: list[GeneratedFile] = []
    for partner, mine in records.items():
        for start in range(0, len(mine), what.file_records):
            chunk = mine[start : start + what.file_records]
            name = f"{partner}-{what.seed:x}-{start // what.file_records:04d}.jsonl"
            files.append(_file(chance, name, chunk, what.malformed, is_array=len(files) % 3 == 2))
    return files, offered


def _record(chance: random.Random, accommodation_id: str, partner: str, name: str, record_bytes: int) -> dict[str, Any]:
    city = chance.choice(CITIES)
    data = {
        "accommodation_name": name,
        "accommodation_address": f"{chance.randrange(1, 200)} Main Street, {city}",
        "accommodation_geocodes": f"{chance.uniform(-90, 90):.6f},{chance.uniform(-180, 180):.6f}",
        "accommodation_city": city,
    }
    record = {"partner_name": partner, "accommodation_id": accommodation_id, "accommodation_data": data}
    missing = record_bytes - len(json.dumps(record, ensure_ascii=False).encode())
    if missing > 0:
        data["accommodation_address"] += " " + "x" * missing
    return record


def _file(
    chance: random.Random, name: str, records: list[dict[str, Any]], malformed: float, *, is_array: bool
) -> GeneratedFile:
    """One file, with malformed records between the good ones; every third file is a JSON array."""
    lines: list[str] = []
    for record in records:
        while chance.random() < malformed:
            lines.append(_malformed(chance, record, is_array=is_array))
        lines.append(json.dumps(record, ensure_ascii=False))
    text = "[" + ",\n".join(lines) + "]" if is_array else "\n".join(lines) + "\n"
    return GeneratedFile(name, text.encode(), len(lines), len(lines) - len(records))


def _malformed(chance: random.Random, good: dict[str, Any], *, is_array: bool) -> str:
    """A record that no careful reader takes; in an array, none whose end could be taken for that of its neighbour."""
    broken: list[Any] = [
        [good["accommodation_id"]],
        None,
        good | {"accommodation_id": 7},
        good | {"partner_name": ""},
        good | {"accommodation_data": None},
        {key.replace("partner_name", "partner"): value for key, value in good.items()},
    ]
    texts = [json.dumps(each, ensure_ascii=False) for each in broken]
    return chance.choice(texts if is_array else [*texts, texts[2][:-9], "not json"])


def expected(offered: dict[str, dict[str, str]], priority: list[str], blocked: list[str]) -> dict[str, tuple[str, str]]:
    """What the rule gives of the offers under these lists."""
    usable = usable_partners(priority, blocked)
    best = {
        accommodation_id: next((name for name in usable if name in by_partner), None)
        for accommodation_id, by_partner in offered.items()
    }
    return {key: (partner, offered[key][partner]) for key, partner in best.items() if partner}


def produce(
    what: Catalogues,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Callable[[int], object] | None = None,
) -> Produced:
    """Upload partners' files to the landing bucket; write the priority list of these partners if none exists.

    Args:
        what: what to generate.
        clock: returns the day (UTC) of the files' keys.
        progress: called with the number of files that were dropped.
    """
    settings = load_settings()
    table = settings.accommodations_priority_table
    if storage.read_list(table, "PriorityList") is None:
        storage.write_list(table, "PriorityList", what.priority, None)
    files, offered = generate(what)
    prefix = f"{LANDING_PREFIX}{lake.day_partition(clock())}/"

    def drop(file: GeneratedFile) -> None:
        s3.write_object(settings.landing_bucket, prefix + file.name, file.body, "application/x-ndjson")
        if progress:
            progress(1)

    in_parallel(drop, files)
    counts = {
        "files": len(files),
        "records": sum(file.records for file in files),
        "malformed": sum(file.malformed for file in files),
    }
    priority, blocked = storage.read_lists(table)
    return Produced(counts, expected(offered, priority, blocked))


@click.command("partners", cls=AwsCommand)
@click.option("--partners", "partners_count", default=6, show_default=True, type=COUNT, help="How many partners.")
@click.option("--accommodations", default=1000, show_default=True, type=COUNT, help="Different accommodations.")
@click.option("--overlap", default=0.3, show_default=True, type=SHARE, help="Share that several partners have.")
@click.option(
    "--malformed",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Share that is to be rejected.",
)
@click.option("--record-bytes", default=250, show_default=True, type=COUNT, help="Size of a record, about.")
@click.option("--file-records", default=1000, show_default=True, type=COUNT, help="Maximum records of a file.")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed: same files. At random if not given.")
def produce_partners(
    partners_count: int,
    accommodations: int,
    overlap: float,
    malformed: float,
    record_bytes: int,
    file_records: int,
    seed: int | None,
) -> None:
    """Upload files of partners with overlapping catalogues to the landing bucket."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    what = Catalogues(partners_count, accommodations, overlap, malformed, record_bytes, file_records, seed)
    with console().status("dropping files"):
        made = produce(what)
    counts = made.counts
    click.echo(
        f"{counts['files']} files with {counts['records']} records ({counts['malformed']} malformed), seed {seed}"
    )
    rows = sorted(Counter(partner for partner, _ in made.truth.values()).items())
    print_table((Column("partner"), Column("accommodations that must come from it", "number")), rows)


COMMANDS = (produce_partners,)
"""Commands of `sluice produce`."""


def sample(now: datetime, *, live: bool) -> Sample:  # noqa: ARG001
    """Catalogues of six partners, which overlap, in ten files or fewer."""
    from sluice.aws.tables import reading

    what = Catalogues(
        accommodations=SAMPLE_ACCOMMODATIONS, file_records=SAMPLE_ACCOMMODATIONS, seed=int(now.timestamp())
    )
    truth = produce(what, clock=lambda: now).truth

    def check() -> tuple[str, bool]:
        rows = reading.read("accommodations_current", columns=("accommodation_id", "partner_name")).to_pylist()
        found = {row["accommodation_id"]: row["partner_name"] for row in rows}
        right = sum(found.get(key) == partner for key, (partner, _) in truth.items())
        return f"{right:,} of {len(truth):,} accommodations come from the partner that must win", right == len(truth)

    return Sample([[Trigger("accommodations_consolidate")]], "sluice tables read accommodations_current", check)
