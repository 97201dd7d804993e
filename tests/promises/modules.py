"""Each record is a message and a diagnostic of one fleet, whose counter of attempts is reset after each diagnostic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import ClassVar

from modules_world import World
from promises.subject import Subject, Views
from sluice.pipelines.modules.steps import RatesOutdated

MODULE = "m"
ATTEMPTS = 1000
"""Of the first diagnostic; each later one has fewer, so that it was reset in between."""


class ModulesDiagnostics(Subject):
    dag_id = "modules_diagnostics"
    steps = ("collect", "store", "compute_rates", "check_rates", "publish_rates")
    gate = "check_rates"
    publishes = tally_of = "publish_rates"
    yields = (RatesOutdated,)
    batch_tally: ClassVar = {"records_in": 7, "published": 4, "duplicates": 2, "quarantined": 1}
    fewest_writes = 10

    @cached_property
    def world(self) -> World:
        return World(self.settings)

    def deploy(self) -> None:
        self.heard: dict[str, float] = {}
        assert self.world

    def send(self, number: int, *, bad: bool = False) -> None:
        if bad:
            self.world.publish(self.world.messages_arn, [f"no message {number}"])
        self.send_again(number)

    def send_again(self, number: int) -> None:
        self.send_late(number)()

    def send_late(self, number: int) -> Callable[[], None]:
        self.world.message(MODULE, 10 * number + 1)
        return partial(self.world.diagnostic, MODULE, 10 * number + 5, ATTEMPTS - number)

    def published(self) -> Views:
        # Of the topic the last rate of a diagnostic counts: docs/guarantees.md.
        self.heard |= {f"{timestamp}": rate for _, timestamp, rate in self.world.published()}
        rows = {f"{row['timestamp']}": row["success_rate"] for row in self.world.rate_rows()}
        rates = {f"{timestamp}": rate for (_, timestamp), rate in self.world.rates().items()}
        return {"success_rate": self.heard, "module_success_rates": rows, "weekly_diagnostic": rates}

    def expected(self, numbers: Iterable[int]) -> Views:
        rates = {f"{10 * number + 5}": 100 / (ATTEMPTS - number) for number in numbers}
        return dict.fromkeys(("success_rate", "module_success_rates", "weekly_diagnostic"), rates)


SUBJECTS = (ModulesDiagnostics,)
