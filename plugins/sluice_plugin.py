"""The Airflow plugin of this project: timetables, for deserialized Dags, the page Lake, and formats of parameters.

Airflow imports every file of this folder under its bare name and identifies a timetable by the module that defines it.
So the class is in a module that this file and the Dags import under the same name.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from sluice_airflow import (
    forms,  # noqa: F401  registers formats
    lake,
)
from sluice_airflow.timetable import BackfillTimetable, StartOfIntervalTimetable

TIMETABLES = [BackfillTimetable, StartOfIntervalTimetable]


class SluicePlugin(AirflowPlugin):
    """The timetables of `events_hourly`, `events_rebuild` and `dockerhub_rebuild`, and the page Lake."""

    name = "sluice"
    timetables = TIMETABLES
    fastapi_apps = lake.FASTAPI_APPS
    react_apps = lake.REACT_APPS
