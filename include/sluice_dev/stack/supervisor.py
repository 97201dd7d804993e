"""Restart processes that have ended, with growing pauses, and stop after repeated failures."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.errors import SluiceError

RESTARTS = 5
WINDOW_SECONDS = 600.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class GaveUp(SluiceError):
    """A component ended too often; the message names it and its log."""


@dataclass(frozen=True)
class Component:
    """A part of the stack that runs in the background.

    Attributes:
        name: as people know it.
        log: the file that says why it ended.
        start: starts it anew, after removing what an earlier process of it left; may raise a SluiceError.
        is_running: whether it runs.
        lost: what a restart loses, as a sentence for people; empty where it loses nothing.
    """

    name: str
    log: Path
    start: Callable[[], object]
    is_running: Callable[[], bool]
    lost: str = ""


class Supervisor:
    """Watches components that were started already.

    Args:
        components: in the order in which they are started again; what others depend on comes first.
        say: prints one line for people.
        clock: seconds that only grow.
        restarts: times that one component is started again within the window; the next end of it is final.
        window_seconds: how long an end counts.
    """

    def __init__(
        self,
        components: Sequence[Component],
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        restarts: int = RESTARTS,
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self.components = components
        self.say = say
        self.clock = clock
        self.restarts = restarts
        self.window_seconds = window_seconds
        self._ends: dict[str, list[float]] = defaultdict(list)
        self._due: dict[str, float] = {}

    def check(self) -> None:
        """Look at every component once, and start what is due. To be called about once a second.

        Raises:
            GaveUp: a component ended once more than it is started again.
        """
        for component in self.components:
            due = self._due.get(component.name)
            if due is None:
                if not component.is_running():
                    self._ended(component, "has ended")
            elif due <= self.clock():
                del self._due[component.name]
                try:
                    component.start()
                except SluiceError as error:
                    self._ended(component, f"did not start ({error})")
                else:
                    self.say(f"{component.name} runs again. {component.lost}".rstrip())

    def _ended(self, component: Component, what: str) -> None:
        now = self.clock()
        ends = [at for at in self._ends[component.name] if at > now - self.window_seconds]
        if len(ends) >= self.restarts:
            raise GaveUp(
                f"{component.name} {what}, {len(ends) + 1} times within {self.window_seconds / 60:.0f} minutes; "
                f"{component.log} says why"
            )
        pause = min(FIRST_PAUSE_SECONDS * 2 ** len(ends), LONGEST_PAUSE_SECONDS)
        self._ends[component.name] = [*ends, now]
        self._due[component.name] = now + pause
        self.say(f"{component.name} {what}; it is started again in {pause:.0f} s, its log is {component.log}")
