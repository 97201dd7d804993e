"""Each record is a file of a partner: an accommodation of its own, and one that its group shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import ClassVar

from accommodations_world import PRIORITY, World, a_record, published_by
from promises.subject import Subject, Views, greatest_of_groups, group
from sluice.pipelines.accommodations.publication import TablesChanged
from sluice.pipelines.accommodations.storage import BatchTaken


class AccommodationsConsolidate(Subject):
    dag_id = "accommodations_consolidate"
    steps = ("collect", "consolidate", "check_outputs", "publish")
    gate = "check_outputs"
    whole = ("accommodations_current",)
    yields = (BatchTaken, TablesChanged)
    # A file that is announced twice is read once.
    batch_tally: ClassVar = {"records_in": 5, "published": 4, "duplicates": 0, "quarantined": 1}
    fewest_writes = 15

    @cached_property
    def world(self) -> World:
        return World(self.settings)

    def deploy(self) -> None:
        World.deploy(self.settings)
        self.world.prioritise(PRIORITY)

    def send(self, number: int, *, bad: bool = False) -> None:
        self.world.send(self.world.event(self._put(number, bad)))

    def send_again(self, number: int) -> None:
        key = f"accommodations/year=2026/month=11/day=21/{number:03}.jsonl"
        self.world.send(self.world.event(key, key))

    def send_late(self, number: int) -> Callable[[], None]:
        return partial(self.world.send, self.world.event(self._put(number, bad=False)))

    def _put(self, number: int, bad: bool) -> str:
        records = [a_record(f"own-{number}", "A"), a_record(f"group-{group(number)}", "A", f"of {number}")]
        return self.world.put(f"{number:03}.jsonl", [*records, *[{"bad": number}][:bad]])

    def published(self) -> Views:
        lines = [line for line, _ in published_by(self.read_objects("curated/accommodations/"))]
        current = {name: what for name, (_, what) in self.world.current().items()}
        return {
            "output files": sorted(name for name in lines if name.startswith("own")),
            "accommodations_current": current,
        }

    def expected(self, numbers: Iterable[int]) -> Views:
        numbers = sorted(numbers)
        current = {f"own-{number}": "Hotel" for number in numbers}
        current |= {f"group-{name}": f"of {number}" for name, number in greatest_of_groups(numbers).items()}
        return {"output files": sorted(f"own-{number}" for number in numbers), "accommodations_current": current}


SUBJECTS = (AccommodationsConsolidate,)
