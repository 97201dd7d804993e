"""What Airflow loads of this project: timetables, by which it reads the Dags back, the page Lake, and the
formats of parameters.

Airflow imports every file of this folder under its bare name and looks a timetable up by the module that defines it. So
the class is in a module that this file and the Dags import under one name.
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
