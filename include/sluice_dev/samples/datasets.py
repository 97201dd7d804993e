"""Sample datasets: CSV with a known share of malformed rows, repeatable by a seed.

`generate` is pure and labels each row with the expected result; `produce` uploads a file.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import click

from sluice.aws import s3
from sluice.core.commands import AwsCommand
from sluice.core.console import console
from sluice.core.scratch import scratch_folder
from sluice.pipelines.datasets.records import COLUMNS, SOURCE_PREFIX
from sluice.settings import load_settings
from sluice_dev.samples.options import COUNT, POSITIVE, SHARE
from sluice_dev.samples.sample import Sample, Trigger

DATASET = "demo"

DATASET_ROWS = 20_000

TALLY_TASKS = {"datasets_aggregate": "publish"}

CLASSES = ("lesson", "quiz", "exam", "video, with sound", 'the "other"', "économie")
"""Also what must be quoted, and unicode."""

CHUNK_ROWS = 10_000
"""Rows between two calls of `progress`."""


@dataclass(frozen=True)
class Shape:
    """What to generate.

    Attributes:
        rows: how many.
        dps: distinct values of `dp`, about.
        malformed: share of rows that must be rejected.
        seed: the same seed gives the same rows.
    """

    rows: int
    dps: int = 20
    malformed: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.malformed <= 1:
            raise ValueError(f"malformed is a share between 0 and 1, not {self.malformed}")
        if self.rows < 0 or self.dps < 1:
            raise ValueError(f"{self.rows} rows of {self.dps} dps cannot be made")


class Generated(NamedTuple):
    """One row as text, and what a careful reader makes of it; of a malformed one only the text counts."""

    text: str
    is_malformed: bool
    dp: str
    memory: int
    percentage: float
    ratio: float


@dataclass(frozen=True)
class Produced:
    """What was dropped off: where, rows, malformed ones, bytes."""

    address: str
    rows: int
    malformed: int
    size_bytes: int


def generate(shape: Shape) -> Iterator[Generated]:
    """The rows of a file in their order."""
    chance = random.Random(shape.seed)
    for number in range(shape.rows):
        dp = f"dp-{chance.randrange(shape.dps):03d}"
        memory = chance.randint(-100, 32767)
        percentage = chance.choice((round(chance.random(), 4), chance.random(), 0.0, 1.0))
        ratio = chance.uniform(-10, 1000)
        fields = [
            f"{shape.seed}-{number}",
            _quoted(chance.choice(CLASSES)),
            str(memory),
            repr(percentage),
            repr(ratio),
            f"fob{chance.randrange(50)}",
            dp,
            str(chance.randint(-128, 127)),
        ]
        is_malformed = chance.random() < shape.malformed
        if is_malformed:
            fields = _malformed(chance, fields)
        yield Generated(",".join(fields), is_malformed, dp, memory, percentage, ratio)


def rows_of_size(size_bytes: float, shape: Shape) -> int:
    """How many rows of that shape make a file of about that size."""
    sample = [len(each.text.encode()) + 1 for each in generate(replace(shape, rows=CHUNK_ROWS))]
    return round(size_bytes / sum(sample) * len(sample))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def _malformed(chance: random.Random, fields: list[str]) -> list[str]:
    """A row that no careful reader takes for one."""
    place = {name: index for index, name in enumerate(COLUMNS)}
    column, value = chance.choice(
        (
            ("memory", "40000"),
            ("memory", '"1,234"'),
            ("memory", "12.5"),
            ("memory", ""),
            ("percentage", "1.5"),
            ("percentage", "nan"),
            ("percentage", "50%"),
            ("ratio", "inf"),
            ("ratio", "many"),
            ("recovered", "128"),
            ("recovered", "yes"),
            ("dp", ""),
            ("", ""),
        )
    )
    if not column:
        return [*fields, "beyond"] if chance.random() < 0.5 else fields[:-1]
    broken = list(fields)
    broken[place[column]] = value
    return broken


def write_csv(path: Path, shape: Shape, progress: Callable[[int], object] | None = None) -> int:
    """Write a file; the number of its malformed rows."""
    malformed = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        rows = generate(shape)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            file.writelines(each.text + "\n" for each in chunk)
            malformed += sum(each.is_malformed for each in chunk)
            if progress:
                progress(len(chunk))
    return malformed


def produce(name: str, shape: Shape, progress: Callable[[int], object] | None = None) -> Produced:
    """Drop a file `datasets/<name>.csv` off in the landing bucket.

    Args:
        name: of the dataset; may hold folders.
        shape: what it holds.
        progress: called with the number of rows that were made since the last call.
    """
    bucket = load_settings().landing_bucket
    key = f"{SOURCE_PREFIX}{name.removesuffix('.csv')}.csv"
    with scratch_folder("datasets-produce") as folder:
        path = folder / "dataset.csv"
        malformed = write_csv(path, shape, progress=progress)
        s3.upload_files(bucket, [(path, key)])
        return Produced(f"s3://{bucket}/{key}", shape.rows, malformed, path.stat().st_size)


@click.command("dataset", cls=AwsCommand)
@click.argument("name", default="sample")
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(min=0), help="Rows of the file.")
@click.option("--size-mb", type=POSITIVE, help="Size of the file, instead of --rows; MB.")
@click.option("--dps", default=20, show_default=True, type=COUNT, help="Distinct values of dp, about.")
@click.option("--malformed", default=0.02, show_default=True, type=SHARE, help="Share that is to be rejected.")
@click.option("--seed", type=int, help="Same seed: same rows. At random if not given.")
def produce_dataset(name: str, rows: int, size_mb: float | None, dps: int, malformed: float, seed: int | None) -> None:
    """Upload a CSV, datasets/NAME.csv, to the landing bucket."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shape = Shape(rows, dps, malformed, secrets.randbelow(2**32) if seed is None else seed)
    if size_mb is not None:
        shape = replace(shape, rows=rows_of_size(size_mb * 1e6, shape))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("rows", total=shape.rows)
        made = produce(name, shape, lambda count: bar.advance(task, count))
    click.echo(
        f"{made.address}: {made.rows:,} rows, {made.malformed:,} malformed, {made.size_bytes:,} bytes,"
        f" seed {shape.seed}"
    )


COMMANDS = (produce_dataset,)
"""Commands of `sluice produce`."""


def sample(now: datetime, *, live: bool) -> Sample:  # noqa: ARG001
    """A CSV with malformed rows."""
    from sluice.pipelines.datasets.storage import read_output

    made = produce(DATASET, Shape(DATASET_ROWS, malformed=0.02, seed=int(now.timestamp())))

    def check() -> tuple[str, bool]:
        rows, _ = read_output(DATASET)
        counted = sum(row["memory_count"] for row in rows)
        is_right = counted == made.rows - made.malformed
        return f"{counted:,} of {made.rows - made.malformed:,} good rows are in {len(rows)} aggregates", is_right

    return Sample([[Trigger("datasets_aggregate")]], f"sluice datasets show {DATASET}", check)
