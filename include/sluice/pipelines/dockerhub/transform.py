"""The rule of the aggregates: the winning object of a month, and the latest push. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sluice.pipelines.dockerhub.records import Stats

TTL_SECONDS = 60 * 24 * 3600
"""Items of the table expire 60 days after their last write (docs/pipelines.md, dockerhub)."""

MARKER_SK = "#latest_version"
MONTHS_SK = "#monthly_state"
"""Sort key of the item with the winning object of each month, without expiry: see docs/decisions/0003."""


@dataclass(frozen=True)
class RawObject:
    """One object of `raw/dockerhub/` with its content.

    Attributes:
        key: its S3 key.
        file_name: last part of the key without `.json`; it decides the month, and the order within it.
        year_month: `YYYY-MM` of the file name.
        last_modified: when S3 stored these bytes (UTC).
        stats: the content.
    """

    key: str
    file_name: str
    year_month: str
    last_modified: datetime
    stats: Stats

    @property
    def source_version(self) -> str:
        """Order of the objects: file name, then time of writing if one key was overwritten, then key.

        The key decides between two objects of one name in two partitions, so that any order of arrival gives the same.
        """
        return f"{self.file_name}@{self.last_modified:%Y-%m-%dT%H:%M:%SZ}@{self.key}"


def key_of_version(source_version: str) -> str:
    """The S3 key in a `source_version`."""
    return source_version.split("@", 2)[2]


def partition_key(stats: Stats) -> str:
    """Partition key of all items of one repository."""
    return f"#user#{stats.user}#name#{stats.name}#namespace#{stats.namespace}"


def timestamp_sort_key(stats: Stats) -> str:
    """SK of the item of one push, `last_updated` as received."""
    return f"#timestamp#{stats.last_updated}"


def group_by_repository(objects: Iterable[RawObject]) -> dict[str, list[RawObject]]:
    """Objects of each partition key."""
    groups: dict[str, list[RawObject]] = {}
    for each in objects:
        groups.setdefault(partition_key(each.stats), []).append(each)
    return groups


def decide_months(objects: Iterable[RawObject]) -> dict[str, RawObject]:
    """`YYYY-MM` -> the object whose file name is greatest, of objects of one repository."""
    winners: dict[str, RawObject] = {}
    for each in objects:
        if each.year_month not in winners or winners[each.year_month].source_version < each.source_version:
            winners[each.year_month] = each
    return winners


def decide_pushes(objects: Iterable[RawObject]) -> dict[str, RawObject]:
    """Sort key -> the winning object of its item, of objects of one repository.

    Two objects may describe the same push (`last_updated`) under two names; the greatest name wins, as for months.
    """
    winners: dict[str, RawObject] = {}
    for each in objects:
        sort_key = timestamp_sort_key(each.stats)
        if sort_key not in winners or winners[sort_key].source_version < each.source_version:
            winners[sort_key] = each
    return winners


def latest_push(objects: Iterable[RawObject]) -> RawObject:
    """The object of the latest push, of objects of one repository; at least one.

    One time may be written in two ways (`16Z`, `16.0Z`): the greater text wins, as for the marker.
    """
    return max(objects, key=lambda each: (each.stats.last_updated_at, each.stats.last_updated))
