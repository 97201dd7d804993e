"""Five tasks in a row that do nothing: what Airflow itself costs."""

from datetime import UTC, datetime

from airflow.sdk import dag, task


@dag(schedule=None, start_date=datetime(2013, 1, 1, tzinfo=UTC), max_active_runs=4)
def empty():
    @task
    def nothing():
        return {"rows": 0}

    previous = None
    for index in range(5):
        current = nothing.override(task_id=f"nothing_{index}")()
        if previous is not None:
            previous >> current
        previous = current


empty()
