"""Background processes: all end after a kill of any of them, and no other program is ever signalled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sluice_dev import log_files
from sluice_dev.stack import sessions

FAMILY = """
import os, signal, sys, time
child = os.fork()
if child == 0:
    os.setpgid(0, 0)  # as Airflow's tasks
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\\n")  # at once: print may write the end of the line by itself
while True:
    time.sleep(60)
"""
"""Two processes that run until they are ended."""

WRITER = """
import os, sys, threading

def write(thread):
    number = 0
    while not closed.is_set():
        os.write(1, f"{thread} {number}{os.linesep}".encode())
        number += 1

closed = threading.Event()
threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
for thread in threads:
    thread.start()
sys.stdin.read()
closed.set()
"""
"""Threads that write numbers until its input is closed."""


def wait_until_ready(started: sessions.Session) -> None:
    while started.log.read_text().splitlines().count("ready") < 2:
        assert started.process.poll() is None


def runs(process: psutil.Process) -> bool:
    """A zombie is there until its parent takes note."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "sessions" / "family.session"
    yield path
    sessions.end([path], 0)


def start(record: Path, *arguments: str) -> sessions.Session:
    log = record.parent.parent / "logs" / "family.log"
    started = sessions.start(record, [sys.executable, "-c", FAMILY, *arguments], dict(os.environ), log)
    wait_until_ready(started)
    return started


@pytest.mark.parametrize("arguments", [[], ["stubborn"]], ids=["ends when asked", "must be killed"])
def test_ending_a_session_ends_all_of_its_processes(record: Path, arguments: list[str]) -> None:
    start(record, *arguments)
    running = sessions.members(record)
    assert len(running) == 2

    assert sessions.end([record], 0.2) == ["family"]

    assert not any(map(runs, running))
    assert not record.exists()


def test_what_a_killed_process_left_is_found_and_ended(record: Path) -> None:
    """The workers of a killed scheduler wait for work for ever."""
    started = start(record)
    started.process.kill()
    started.process.wait()
    (orphan,) = sessions.members(record)

    assert sessions.end([record], 0.2) == ["family"]

    assert not runs(orphan)


def test_a_suspended_session_is_ended(record: Path) -> None:
    """After a kill in the middle of a rotation the writers are suspended."""
    start(record)
    for process in sessions.members(record):
        process.suspend()
    assert sessions.end([record], 0.2) == ["family"]
    assert sessions.members(record) == []


def test_a_session_number_that_went_to_another_program_is_left_alone(record: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        record.parent.mkdir()
        record.write_text(str(other.pid))

        assert sessions.end([record], 0) == []

        assert other.poll() is None
        other.communicate(b"\n")
    assert not record.exists()


@pytest.mark.parametrize("content", ["", "x", "-1"])
def test_a_record_that_a_kill_left_half_written_names_no_session(record: Path, content: str) -> None:
    record.parent.mkdir()
    record.write_text(content)
    assert sessions.members(record) == []


def test_a_process_whose_parent_was_killed_early_is_not_started(tmp_path: Path) -> None:
    log, record = tmp_path / "log", tmp_path / "x.session"
    command = [
        sys.executable,
        "-m",
        "sluice_dev.stack.sessions",
        str(record),
        "1",
        sys.executable,
        "-c",
        "print('ran')",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert not record.exists()
    assert not log.exists()


def test_a_log_is_appended_to_and_the_last_lines_are_those_of_this_start(record: Path) -> None:
    first = start(record)
    sessions.end([record], 0.2)
    again = sessions.start(record, [sys.executable, "-c", "print('second')"], dict(os.environ), first.log)
    again.process.wait()
    assert again.last_lines() == ["second"]
    assert first.log.read_text().splitlines() == ["ready", "ready", "second"]


@pytest.mark.parametrize("timeout_seconds", [1.0, 0.0], ids=["suspended", "not suspended in time"])
def test_no_line_is_lost_while_a_log_is_rotated_under_its_writer(
    timeout_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "STOPPED_TIMEOUT_SECONDS", timeout_seconds)
    log = tmp_path / "x.log"
    with (
        log.open("ab") as output,
        subprocess.Popen([sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=output) as writer,
    ):
        rotations = 0
        while rotations < 20:
            assert writer.poll() is None
            rotations += log_files.rotate(log, lambda: [psutil.Process(writer.pid)], limit_bytes=2_000, generations=20)
        writer.communicate()
    files = sorted(tmp_path.glob("x.log.*"), key=lambda file: -int(file.suffix[1:]))
    lines = [line for file in [*files, log] for line in file.read_text().splitlines()]
    for thread in map(str, range(4)):
        numbers = [number for line in lines for written_by, number in [line.split()] if written_by == thread]
        assert numbers == [*map(str, range(len(numbers)))]


def test_only_the_newest_generations_of_a_log_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for number in range(6):
        log.write_text(f"{number}\n")
        assert log_files.rotate(log, limit_bytes=1, generations=2)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "x.log": "",
        "x.log.1": "5\n",
        "x.log.2": "4\n",
    }
    assert not log_files.rotate(log, limit_bytes=1)
    assert not log_files.rotate(tmp_path / "missing.log")


def test_old_logs_of_tasks_are_removed_and_new_ones_stay(tmp_path: Path) -> None:
    old, new = (
        tmp_path / "dag_id=a" / "run_id=1" / "attempt=1.log",
        tmp_path / "dag_id=a" / "run_id=2" / "attempt=1.log",
    )
    for file in (old, new):
        file.parent.mkdir(parents=True)
        file.write_text("x")
    for path in (old, old.parent):
        os.utime(path, (1_000_000, 1_000_000))

    assert log_files.remove_older(tmp_path, days=30) == 1

    assert new.exists()
    assert not old.exists()
