"""A part of the stack that ends by itself is started again, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.errors import SluiceError
from sluice_dev.stack.supervisor import Component, GaveUp, Supervisor


class Parts:
    """Two parts and a controlled clock."""

    def __init__(self) -> None:
        self.running = {"scheduler": True, "triggerer": True}
        self.starts: list[str] = []
        self.refuses = 0
        self.said: list[str] = []
        self.now = 0.0
        self.supervisor = Supervisor(
            [self.component(name) for name in self.running], self.said.append, clock=lambda: self.now
        )

    def component(self, name: str) -> Component:
        def start() -> None:
            if self.refuses:
                self.refuses -= 1
                raise SluiceError("the port is taken")
            self.starts.append(name)
            self.running[name] = True

        lost = "Queued work is lost." if name == "scheduler" else ""
        return Component(name, Path(f"logs/{name}.log"), start, lambda: self.running[name], lost)

    def wait(self, seconds: float) -> None:
        """Check once a second."""
        for _ in range(int(seconds)):
            self.now += 1
            self.supervisor.check()


def test_a_part_that_ends_is_started_again_and_the_others_are_left_alone() -> None:
    parts = Parts()
    parts.running["scheduler"] = False
    parts.wait(3)
    assert parts.starts == ["scheduler"]
    assert parts.said == [
        "scheduler has ended; it is started again in 1 s, its log is logs/scheduler.log",
        "scheduler runs again. Queued work is lost.",
    ]


def test_pauses_grow_and_an_old_end_does_not_count() -> None:
    parts = Parts()
    pauses = []
    for _ in range(4):
        parts.running["triggerer"] = False
        begun, before = parts.now, len(parts.starts)
        while len(parts.starts) == before:
            parts.wait(1)
        pauses.append(parts.now - begun - 1)
    assert pauses == [1, 2, 4, 8]
    parts.wait(700)
    parts.running["triggerer"] = False
    parts.wait(2)
    assert len(parts.starts) == 5


def test_a_part_that_ends_repeatedly_stops_the_stack_and_names_its_log() -> None:
    parts = Parts()

    def crash_loop() -> None:
        while True:
            parts.running["triggerer"] = False
            parts.wait(1)

    with pytest.raises(GaveUp, match=r"triggerer has ended, 6 times within 10 minutes; logs/triggerer.log says why"):
        crash_loop()
    assert parts.starts == ["triggerer"] * 5


def test_a_part_that_cannot_be_started_is_retried_although_some_of_it_runs() -> None:
    """A deployment can fail after the emulator has started."""
    parts = Parts()
    parts.running["scheduler"], parts.refuses = False, 1
    parts.wait(2)
    parts.running["scheduler"] = True
    parts.wait(4)
    assert parts.starts == ["scheduler"]
    assert "scheduler did not start (the port is taken)" in parts.said[1]
