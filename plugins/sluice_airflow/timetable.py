"""The schedule of Dags whose logical date is the start of the hour or month that a run processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.timetables.base import DataInterval
from airflow.timetables.interval import CronDataIntervalTimetable

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, TimeRestriction
    from pendulum import DateTime


class StartOfIntervalTimetable(CronDataIntervalTimetable):
    """Cron intervals in which a manual run for an interval is the run of that interval.

    Airflow gives a manual run with the logical date 17:00 the interval from 16:00 to 17:00. If that run is the latest,
    the scheduler would try to create 17:00 next, find it existing, and retry in every loop.
    """

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """The interval that starts at a logical date, or the last full one if none starts there."""
        if self._align_to_prev(run_after) == run_after:
            return DataInterval(start=run_after, end=self._get_next(run_after))
        return super().infer_manual_data_interval(run_after=run_after)


class BackfillTimetable(StartOfIntervalTimetable):
    """Intervals for backfills only, without scheduled runs."""

    @property
    def summary(self) -> str:
        """What the web UI shows in place of a cron expression."""
        return "backfill only"

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next interval for a backfill, which ignores `catchup`; None for the scheduler."""
        if not restriction.catchup:
            return None
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )
