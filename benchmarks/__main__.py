"""Run every benchmark: `make bench`."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from benchmarks import bench_events


@click.command()
@click.option("--quick", is_flag=True, help="Small data, one round: shows that it works, not how fast.")
@click.option("--rounds", default=5, show_default=True, help="Times that each contestant runs; the median counts.")
def main(quick: bool, rounds: int) -> None:
    """Speed and memory beside peers and floors, each contestant in a process of its own."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    bench_events.run(console, quick=quick, rounds=1 if quick else rounds)


main()
