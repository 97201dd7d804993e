from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from sluice.aws.sessions import connection_arguments
from sluice.environment import airflow_environment, aws_connection, aws_environment, stored_secret
from sluice.settings import PROJECT_ROOT, Settings

EMBEDDED = Settings(_env_file=None, aws_port=4999, aws_account_id="123456789012", aws_region="eu-central-1")
REAL = Settings(_env_file=None, target="aws", aws_region="eu-central-1")


def test_the_aws_cli_reaches_the_embedded_aws_as_our_own_clients_do() -> None:
    ours = connection_arguments(EMBEDDED)
    theirs = aws_environment(EMBEDDED)
    assert theirs["AWS_ENDPOINT_URL"] == ours["endpoint_url"] == "http://127.0.0.1:4999"
    assert theirs["AWS_ACCESS_KEY_ID"] == ours["aws_access_key_id"] == "123456789012"
    assert theirs["AWS_SECRET_ACCESS_KEY"] == ours["aws_secret_access_key"]
    assert theirs["AWS_DEFAULT_REGION"] == ours["region_name"] == "eu-central-1"


def test_a_real_account_is_reached_with_the_credentials_of_the_user() -> None:
    assert aws_environment(REAL) == {"AWS_DEFAULT_REGION": "eu-central-1"}
    assert connection_arguments(REAL) == {"region_name": "eu-central-1"}
    assert json.loads(aws_connection(REAL)) == {"conn_type": "aws", "extra": {"region_name": "eu-central-1"}}


def test_airflow_reaches_the_embedded_aws_by_its_default_connection() -> None:
    connection = json.loads(aws_connection(EMBEDDED))
    assert connection["login"] == "123456789012"
    assert connection["extra"] == {"region_name": "eu-central-1", "endpoint_url": "http://127.0.0.1:4999"}


def test_airflow_finds_the_dags_the_plugins_and_its_database() -> None:
    environment = airflow_environment(EMBEDDED, "sqlite:////airflow.db", "signed")
    assert Path(environment["AIRFLOW__CORE__DAGS_FOLDER"]) == PROJECT_ROOT / "dags"
    assert Path(environment["AIRFLOW__CORE__PLUGINS_FOLDER"]) == PROJECT_ROOT / "plugins"
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "sqlite:////airflow.db"
    assert environment["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert environment["AIRFLOW_CONN_AWS_DEFAULT"] == aws_connection(EMBEDDED)
    assert aws_environment(EMBEDDED).items() <= environment.items()


def test_all_state_of_airflow_is_below_home() -> None:
    environment = airflow_environment(EMBEDDED.model_copy(update={"home": Path("/state")}), "sqlite://", "signed")
    kept = ("AIRFLOW_HOME", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", "AIRFLOW__LOGGING__BASE_LOG_FOLDER")
    assert all(environment[name].startswith("/state/") for name in kept)


def test_the_environment_is_text_that_a_process_can_be_given() -> None:
    for settings in (EMBEDDED, REAL):
        environment = airflow_environment(settings, "sqlite://", "signed")
        assert all(isinstance(value, str) and "\0" not in value for value in environment.values())


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    secret = stored_secret(path)
    assert len(secret) >= 32
    assert stored_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path], "no half-made secret is left"


def test_two_folders_have_two_secrets(tmp_path: Path) -> None:
    assert stored_secret(tmp_path / "a" / "secret") != stored_secret(tmp_path / "b" / "secret")


def test_of_two_first_uses_at_once_both_get_the_same_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_found_none = threading.Barrier(2)
    make_folder = Path.mkdir

    def wait_for_the_other(*arguments: Any, **options: Any) -> None:
        make_folder(*arguments, **options)
        both_found_none.wait(timeout=10)

    monkeypatch.setattr(Path, "mkdir", wait_for_the_other)
    secrets: list[str] = []
    threads = [threading.Thread(target=lambda: secrets.append(stored_secret(tmp_path / "secret"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(secrets) == 2
    assert len(set(secrets)) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "secret"]
