"""Writes down what each process of a task cost: put this folder on PYTHONPATH and set SLUICE_BENCH_TASK_CPU.

A task's process ends by `os._exit`, and counts its CPU seconds from its fork on.
"""

import os

if "SLUICE_BENCH_TASK_CPU" in os.environ:
    _exit = os._exit

    def _exit_noted(status: int) -> None:
        task = os.environ.get("AIRFLOW_CTX_TASK_ID")
        if task:
            import json
            import resource

            used = resource.getrusage(resource.RUSAGE_SELF)
            line = {
                "dag": os.environ["AIRFLOW_CTX_DAG_ID"],
                "task": task,
                "run": os.environ["AIRFLOW_CTX_DAG_RUN_ID"],
                "cpu_seconds": used.ru_utime + used.ru_stime,
            }
            record = os.open(os.environ["SLUICE_BENCH_TASK_CPU"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(record, (json.dumps(line) + "\n").encode())
        _exit(status)

    os._exit = _exit_noted
