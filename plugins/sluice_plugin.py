"""What Airflow must know by name to read the Dags back from its database.

Airflow imports every file of this folder under its bare name and looks a timetable up by the module that defines it. So
the class is in a module that this file and the Dags import under one name.
"""

from __future__ import annotations

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from sluice_airflow.timetable import BackfillTimetable, StartOfIntervalTimetable


class SluicePlugin(AirflowPlugin):
    """The timetables of `events_hourly`, `events_rebuild` and `dockerhub_rebuild`."""

    name = "sluice"
    timetables: ClassVar = [BackfillTimetable, StartOfIntervalTimetable]
