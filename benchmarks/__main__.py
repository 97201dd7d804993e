"""Run every benchmark: `make bench`."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from benchmarks import (
    bench_accommodations,
    bench_datasets,
    bench_events,
    bench_lake_pages,
    bench_latency,
    bench_modules,
    bench_orchestration,
    bench_tables,
    end_on_sigterm,
)

BENCHMARKS = {
    "events": bench_events,
    "accommodations": bench_accommodations,
    "datasets": bench_datasets,
    "modules": bench_modules,
    "tables": bench_tables,
    "orchestration": bench_orchestration,
    "lake": bench_lake_pages,
    "latency": bench_latency,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="Small data, one round: shows that it works, not how fast.")
@click.option("--rounds", default=5, show_default=True, help="Times that each contestant runs; the median counts.")
def main(names: tuple[str, ...], quick: bool, rounds: int) -> None:
    """Speed and memory relative to baselines and other engines, each in a process of its own: NAMES, or all of them."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    for name in names or BENCHMARKS:
        BENCHMARKS[name].run(console, quick=quick, rounds=1 if quick else rounds)


end_on_sigterm()
main()
