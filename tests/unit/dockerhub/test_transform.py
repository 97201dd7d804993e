from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sluice.core.run import epoch_microseconds
from sluice.pipelines.dockerhub.records import Stats, parse_raw_key, raw_key
from sluice.pipelines.dockerhub.transform import (
    RawObject,
    decide_months,
    decide_pushes,
    group_by_repository,
    latest_push,
    partition_key,
    timestamp_sort_key,
)

WRITTEN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def stats(last_updated: str, star_count: int = 1, pull_count: int = 2, name: str = "localstack") -> Stats:
    moment = datetime.fromisoformat(last_updated)
    return Stats("localstack", name, "localstack", star_count, pull_count, last_updated, moment)


def stored(file_name: str, content: Stats, last_modified: datetime = WRITTEN, folder: str = "") -> RawObject:
    """An object whose name may say another time than its content."""
    named = datetime.strptime(file_name, "%Y_%m_%d_%H%M%S").replace(tzinfo=UTC)
    key = raw_key(Stats("localstack", content.name, content.namespace, 0, 0, "", named))
    if folder:
        key = key.replace(f"day={named:%d}", f"day={folder}")
    return RawObject(key, file_name, parse_raw_key(key).year_month, last_modified, content)


WORKED_EXAMPLE = [
    stored("2023_09_14_150000", stats("2023-09-14T15:00:00Z", 198, 178_900_000)),
    stored("2023_09_15_150550", stats("2023-09-15T15:05:50Z", 198, 179_000_000)),
    stored("2023_09_15_154316", stats("2023-09-15T15:43:16Z", 200, 180_000_000)),
    stored("2023_09_15_200000", stats("2023-09-15T15:43:16Z", 201, 180_000_050)),
    stored("2023_10_30_154316", stats("2023-10-30T15:43:16Z", 230, 185_000_000)),
]


@st.composite
def lakes(draw: st.DrawFn) -> list[RawObject]:
    """Objects of one repository as they may lie in raw/: close names, contents that disagree with them, overwrites."""
    start = datetime(2023, 9, 30, 23, 59, 57, tzinfo=UTC)
    seconds = st.integers(0, 5)
    # A key holds one content for each time that it was written.
    objects: dict[tuple[str, datetime], RawObject] = {}
    for _ in range(draw(st.integers(1, 8))):
        named = start + timedelta(seconds=draw(seconds))
        pushed = start + timedelta(seconds=draw(seconds))
        text = f"{pushed:%Y-%m-%dT%H:%M:%S}" + draw(st.sampled_from(["Z", ".0Z", ".5Z"]))
        content = stats(text, draw(st.integers(0, 3)), draw(st.integers(0, 3)))
        last_modified = WRITTEN + timedelta(seconds=draw(st.integers(0, 2)))
        each = stored(f"{named:%Y_%m_%d_%H%M%S}", content, last_modified, draw(st.sampled_from(["", "01"])))
        objects.setdefault((each.key, last_modified), each)
    return list(objects.values())


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[RawObject], list[RawObject]]:
    """The same objects in another order, some of them delivered more than once."""
    objects = draw(lakes())
    again = draw(st.lists(st.sampled_from(objects), max_size=5))
    return objects, draw(st.permutations(objects + again))


def shown(objects: Sequence[RawObject]) -> tuple[object, ...]:
    """All that the table shows of these objects."""
    return decide_months(objects), decide_pushes(objects), latest_push(objects).stats.last_updated


def test_the_worked_example_of_the_contract() -> None:
    months = decide_months(WORKED_EXAMPLE)
    found = {month: (winner.stats.star_count, winner.stats.pull_count) for month, winner in months.items()}
    assert found == {"2023-09": (201, 180_000_050), "2023-10": (230, 185_000_000)}
    assert latest_push(WORKED_EXAMPLE).stats.last_updated == "2023-10-30T15:43:16Z"


def test_of_two_objects_about_one_push_the_greater_name_is_shown() -> None:
    pushes = decide_pushes(WORKED_EXAMPLE)
    assert len(pushes) == 4
    assert pushes["#timestamp#2023-09-15T15:43:16Z"].stats.pull_count == 180_000_050


@given(st.permutations(WORKED_EXAMPLE * 2))
def test_the_worked_example_holds_in_any_order_and_delivered_twice(objects: list[RawObject]) -> None:
    assert shown(objects) == shown(WORKED_EXAMPLE)


@given(deliveries())
def test_any_order_and_any_duplication_of_objects_shows_the_same(
    delivered: tuple[list[RawObject], list[RawObject]],
) -> None:
    objects, delivery = delivered
    assert shown(delivery) == shown(objects)


@given(lakes(), st.data())
def test_deciding_batch_by_batch_is_deciding_at_once(objects: list[RawObject], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(objects)))
    first, second = objects[:cut], objects[cut:]
    for decide in (decide_months, decide_pushes):
        winners = [*decide(first).values(), *decide(second).values()]
        assert decide(winners) == decide(objects)


@given(lakes())
def test_the_file_name_decides_a_month_for_any_content(objects: list[RawObject]) -> None:
    for month, winner in decide_months(objects).items():
        assert winner.file_name == max(each.file_name for each in objects if each.year_month == month)
        assert winner.file_name.startswith(month.replace("-", "_"))


@given(lakes())
def test_the_latest_push_is_that_of_the_content_and_not_of_the_name(objects: list[RawObject]) -> None:
    assert latest_push(objects).stats.last_updated_at == max(each.stats.last_updated_at for each in objects)


def test_a_key_that_was_overwritten_counts_as_it_was_written_last() -> None:
    old = stored("2023_09_14_150000", stats("2023-09-14T15:00:00Z", pull_count=1))
    new = stored("2023_09_14_150000", stats("2023-09-14T15:00:00Z", pull_count=2), WRITTEN + timedelta(seconds=1))
    assert old.source_version < new.source_version
    for objects in ([old, new], [new, old]):
        assert decide_months(objects)["2023-09"] == new
        assert decide_pushes(objects)["#timestamp#2023-09-14T15:00:00Z"] == new


def test_a_greater_name_counts_more_than_a_later_write() -> None:
    late = stored("2023_09_14_150000", stats("2023-09-14T15:00:00Z"), WRITTEN + timedelta(days=300))
    greater = stored("2023_09_14_150001", stats("2023-09-14T15:00:01Z"))
    assert decide_months([greater, late])["2023-09"] == greater


def test_keys_of_items_are_those_of_the_contract() -> None:
    content = stats("2023-09-15T15:43:16.758489Z")
    assert partition_key(content) == "#user#localstack#name#localstack#namespace#localstack"
    assert timestamp_sort_key(content) == "#timestamp#2023-09-15T15:43:16.758489Z"


def test_repositories_do_not_mix() -> None:
    one, other = stats("2023-09-15T15:43:16Z"), stats("2023-09-15T15:43:16Z", name="other")
    objects = [stored("2023_09_15_154316", content) for content in (one, other, one)]
    assert [len(group) for group in group_by_repository(objects).values()] == [2, 1]
    assert list(group_by_repository(objects)) == [partition_key(one), partition_key(other)]


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime) -> None:
    assert epoch_microseconds(moment) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_a_push_with_a_fraction_is_later_than_that_of_the_whole_second() -> None:
    whole, fraction = stats("2023-09-15T15:43:16Z"), stats("2023-09-15T15:43:16.5Z")
    assert fraction.last_updated < whole.last_updated
    assert epoch_microseconds(fraction.last_updated_at) > epoch_microseconds(whole.last_updated_at)
    objects = [stored("2023_09_15_154316", fraction), stored("2023_09_15_154317", whole)]
    assert latest_push(objects).stats == fraction


def test_a_moment_written_in_two_ways_is_one_marker_in_any_order() -> None:
    one, other = stats("2023-09-15T15:43:16Z"), stats("2023-09-15T15:43:16.0Z")
    objects = [stored("2023_09_15_154316", one), stored("2023_09_15_154317", other)]
    assert latest_push(objects).stats == latest_push(objects[::-1]).stats == one
