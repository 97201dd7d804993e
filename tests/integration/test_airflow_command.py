from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_an_airflow_command_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sluice_dev.stack.airflow_command", "dags", "list"],
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "unheard-of://"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("ArgumentError: Could not parse SQLAlchemy URL")
