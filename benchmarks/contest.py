"""Contestants in processes of their own: seconds and peak memory of each, and their ratios in one table."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table


class Run(NamedTuple):
    """One run of a contestant.

    Attributes:
        seconds: of the work, without imports and the start of a JVM.
        cpu_seconds: of all its processes and threads in that time; what else runs on the machine changes it little.
        rows: that it gave.
        peak_mb: resident memory of all its processes, at the peak of its whole life.
    """

    seconds: float
    cpu_seconds: float
    rows: int
    peak_mb: float


@dataclass
class Contestant:
    """One way to do the work.

    Attributes:
        name: what the table shows.
        arguments: of `python -m`, a module first; it prints one line of JSON with `seconds` and `rows`.
        goal: of the ratio of ours to this one's time, as text; empty for none.
        runs: how it went; empty when it cannot run here.
        missing: why it could not run.
    """

    name: str
    arguments: Sequence[str]
    goal: str = ""
    runs: list[Run] = field(default_factory=list)
    missing: str = ""

    @property
    def median_seconds(self) -> float:
        """Median of its runs."""
        return statistics.median(run.seconds for run in self.runs)


def run_process(arguments: Sequence[str]) -> Run:
    """Run one contestant once.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    with TemporaryFile() as out, TemporaryFile() as errors:
        process = psutil.Popen([sys.executable, "-m", *arguments], stdout=out, stderr=errors)
        peak_bytes = 0
        try:
            while process.poll() is None:
                peak_bytes = max(peak_bytes, _resident_bytes(process))
                time.sleep(0.02)
        finally:
            _end(process)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(said[-1] if said else f"ended with {process.returncode}")
        answer = json.loads(out.read().splitlines()[-1])
    return Run(answer["seconds"], answer["cpu_seconds"], answer["rows"], max(peak_bytes / 1e6, answer["peak_mb"]))


def _end(process: psutil.Popen) -> None:
    """End a process that still runs, and all below it, such as the JVM of Spark."""
    with suppress(psutil.NoSuchProcess):
        left = [*process.children(recursive=True), process] if process.poll() is None else []
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(left)


def _resident_bytes(process: psutil.Process) -> int:
    """Of the process and all below it."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total


def run_contest(title: str, contestants: Sequence[Contestant], rounds: int, console: Console) -> None:
    """Run all contestants in turns, and print the table; the first one is ours."""
    with console.status(title) as status:
        for turn in range(rounds):
            for contestant in contestants:
                if not contestant.missing:
                    status.update(f"{title}: {contestant.name}, {turn + 1} of {rounds}")
                    try:
                        contestant.runs.append(run_process(contestant.arguments))
                    except RuntimeError as error:
                        contestant.missing = str(error)
    console.print(_table(title, contestants))


def _table(title: str, contestants: Sequence[Contestant]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("", "seconds", "CPU s", "ours / it", "goal", "peak MB", "rows"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    ours = contestants[0]
    for each in contestants:
        if not each.runs:
            table.add_row(each.name, "did not run", "", "", each.goal, "", "")
            table.caption = f"{table.caption or ''}{each.name}: {each.missing}\n"
            continue
        seconds = [run.seconds for run in each.runs]
        spread = f" ({min(seconds):.2f}-{max(seconds):.2f})" if len(seconds) > 1 else ""
        cpu = f"{statistics.median(run.cpu_seconds for run in each.runs):.2f}"
        ratio = f"{ours.median_seconds / each.median_seconds:.2f}" if ours.runs and each is not ours else ""
        peak = f"{max(run.peak_mb for run in each.runs):,.0f}"
        table.add_row(
            each.name, f"{each.median_seconds:.2f}{spread}", cpu, ratio, each.goal, peak, f"{each.runs[0].rows:,}"
        )
    return table


class Stopwatch:
    """Seconds of a block; what it gives is printed for `run_process`."""

    rows = 0

    def __enter__(self) -> Stopwatch:
        self.cpu = _cpu_seconds()
        self.start = time.perf_counter()
        return self

    def __exit__(self, *failed: object) -> None:
        seconds = time.perf_counter() - self.start
        cpu_seconds = _cpu_seconds() - self.cpu
        if failed[0] is None:
            unit = 1 if sys.platform == "darwin" else 1024
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
            answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "rows": self.rows, "peak_mb": peak_mb}
            print(json.dumps(answer), flush=True)


def _cpu_seconds() -> float:
    """Of this process and those below it."""
    me = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in [me, *me.children(recursive=True)])


def size_mb(files: Sequence[Path]) -> float:
    """Size of files, MB."""
    return sum(file.stat().st_size for file in files) / 1e6
