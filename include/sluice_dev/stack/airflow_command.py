"""`python -m sluice_dev.stack.airflow_command ...`: an Airflow command that prints its answer, and no log lines."""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from types import TracebackType

WITH_LOGS = {
    ("api-server",),
    ("dag-processor",),
    ("db",),
    ("scheduler",),
    ("standalone",),
    ("triggerer",),
    ("dags", "test"),
    ("tasks", "test"),
}
"""Services and tasks, whose logs are what one wants to see."""


def writes_logs(arguments: Sequence[str]) -> bool:
    """Whether the logs of `airflow <arguments>` belong to what it is run for."""
    return not WITH_LOGS.isdisjoint((tuple(arguments[:1]), tuple(arguments[:2])))


def main() -> None:
    """Run the command of the arguments; an error is one line, and the exit code is Airflow's."""
    # Before the import, which reads it. One of the shell wins.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.excepthook = _print_error
    runpy.run_module("airflow", run_name="__main__", alter_sys=True)


def _print_error(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    print(f"{kind.__name__}: {error} (`sluice --traceback airflow ...` shows where)", file=sys.stderr)


if __name__ == "__main__":
    main()
