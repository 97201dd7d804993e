"""Each record is a version of a file, which all records of its group are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import ClassVar

from datasets_world import World, csv_of, row
from promises.subject import Subject, Views, greatest_of_groups, group


class DatasetsAggregate(Subject):
    dag_id = "datasets_aggregate"
    steps = ("collect", "aggregate", "check", "publish")
    gate = "check"
    whole = ("files",)
    # A file that is announced twice is read once.
    batch_tally: ClassVar = {"records_in": 3, "published": 2, "duplicates": 0, "quarantined": 1}
    fewest_writes = 6

    @cached_property
    def world(self) -> World:
        return World(self.settings)

    def deploy(self) -> None:
        assert self.world

    def send(self, number: int, *, bad: bool = False) -> None:
        self._put(number, bad)
        self.send_again(number)

    def send_again(self, number: int) -> None:
        self.world.announce(self._key(number))

    def send_late(self, number: int) -> Callable[[], None]:
        self._put(number, bad=False)
        return partial(self.send_again, number)

    def _key(self, number: int) -> str:
        return f"datasets/{group(number)}.csv"

    def _put(self, number: int, bad: bool) -> None:
        self.world.put(csv_of(row(memory=number), *[row(memory="bad", record_id=number)][:bad]), self._key(number))

    def published(self) -> Views:
        keys = self.world.keys("curated/datasets/")
        return {"files": {key: [each["memory_max"] for each in self.world.rows(key)] for key in keys}}

    def expected(self, numbers: Iterable[int]) -> Views:
        greatest = greatest_of_groups(numbers)
        return {"files": {f"curated/datasets/{name}.parquet": [number] for name, number in greatest.items()}}


SUBJECTS = (DatasetsAggregate,)
