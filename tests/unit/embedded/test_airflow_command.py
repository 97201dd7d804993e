from __future__ import annotations

import pytest

from sluice_dev.stack.airflow_command import writes_logs


@pytest.mark.parametrize("command", ["scheduler --skip-serve-logs", "api-server", "db migrate", "dags test d"])
def test_services_and_tests_of_dags_write_their_logs(command: str) -> None:
    assert writes_logs(command.split())


@pytest.mark.parametrize("command", ["", "dags", "dags list -o json", "tasks list test", "backfill create"])
def test_other_commands_print_their_answer_alone(command: str) -> None:
    assert not writes_logs(command.split())
