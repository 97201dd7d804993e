from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sluice.base_settings import PipelineSettings
from sluice.settings import PROJECT_ROOT, RENAMED, Settings, SettingsError, load_settings, unknown_settings

EXAMPLE = PROJECT_ROOT / ".env.example"
EXAMPLE_LINE = re.compile(r"^#? ?(SLUICE_[A-Z_]+)=(.*)$", re.MULTILINE)

WRONG = {
    "SLUICE_TARGET": ["aws-prod", "EMBEDDED"],
    "SLUICE_ENVIRONMENT": ["Prod", "1st", "a-name-that-is-too-long"],
    "SLUICE_WEB_PORT": ["0", "65536", "http", "80.5"],
    "SLUICE_DATABASE_URL": ["postgres://user@host/airflow", "mysql://host"],
    "SLUICE_AWS_REGION": ["europe", "eu-west"],
    "SLUICE_AWS_PORT": ["-1", "99999"],
    "SLUICE_AWS_ENDPOINT_URL": ["localhost:4566", "s3://bucket"],
    "SLUICE_AWS_ACCOUNT_ID": ["12", "abcdefghijkl", "0000000000001"],
    "SLUICE_LANDING_BUCKET": ["Landing", "a", "under_score", "-dash"],
    "SLUICE_LAKE_BUCKET": ["s3://lake", "lake/raw", "x" * 64],
    "SLUICE_DOCKERHUB_MAX_MESSAGES": ["0", "9", "10001", "many"],
    "SLUICE_DOCKERHUB_URL": ["hub.docker.com", "https://hub.docker.com/v2", "ftp://hub.docker.com"],
    "SLUICE_DOCKERHUB_REPOSITORIES": [
        "sluice-canary/image",
        "localstack",
        "a/b/c",
        "localstack/Localstack",
        " , ",
        ",",
        "a/b,redis",
        "a b/c",
    ],
    "SLUICE_DOCKERHUB_PULL_SCHEDULE": ["every 5 minutes", "*/5 * * *", "@hourly", "0 */5 * * * *", "99 * * * *"],
    "SLUICE_DOCKERHUB_CONCURRENCY": ["0", "65"],
    "SLUICE_DOCKERHUB_TIMEOUT_SECONDS": ["0", "-1", "301", "10s"],
    "SLUICE_DOCKERHUB_ATTEMPTS": ["0", "11"],
    "SLUICE_DOCKERHUB_RETRY_MAX_SECONDS": ["0", "601"],
    "SLUICE_DOCKERHUB_TABLE": ["t", "a table"],
    "SLUICE_EVENTS_STREAM": ["a stream", "x" * 129],
    "SLUICE_EVENTS_CHECKPOINT_TABLE": ["t", "a/b"],
    "SLUICE_EVENTS_HOURS_TABLE": ["t", "a/b"],
    "SLUICE_GLUE_DATABASE": ["Sluice", "sluice-dev"],
    "SLUICE_EVENTS_MAX_RECORDS": ["999", "all"],
    "SLUICE_EVENTS_DEDUP_WINDOW_HOURS": ["-1", "169", "1.5"],
    "SLUICE_EVENTS_ENGINE": ["DuckDB", "pandas"],
    "SLUICE_EVENTS_MEMORY_LIMIT_MB": ["255", "2GB"],
    "SLUICE_TABLE_RETENTION_HOURS": ["0"],
    "SLUICE_TABLE_MAINTENANCE": ["glue", "Airflow"],
    "SLUICE_EVENTS_TARGET_FILE_BYTES": ["1048575", "128MiB"],
    "SLUICE_RUNS_TABLE": ["t", "a table"],
    "SLUICE_ALERT_EMAIL": ["nobody", "a@b@c", "on call@example.com"],
    "SLUICE_ALERT_REPEAT_HOURS": ["0", "169", "6h"],
    "SLUICE_CANARY_SCHEDULE": ["daily", "0 * * *"],
    "SLUICE_CANARY_TIMEOUT_SECONDS": ["9", "3601", "5m"],
    "SLUICE_MODULES_MESSAGE_TABLE": ["t", "a table"],
    "SLUICE_MODULES_DIAGNOSTIC_TABLE": ["t", "a/b"],
    "SLUICE_MODULES_MAX_MESSAGES": ["9", "100001", "all"],
    "SLUICE_ACCOMMODATIONS_MAX_MESSAGES": ["0", "10001", "all"],
    "SLUICE_ACCOMMODATIONS_PRIORITY_TABLE": ["t", "a table"],
    "SLUICE_ACCOMMODATIONS_PRIORITY_BILLING": ["free", "PROVISIONED"],
    "SLUICE_ACCOMMODATIONS_LEDGER_TABLE": ["t", "a/b"],
    "SLUICE_ACCOMMODATIONS_MEMORY_LIMIT_MB": ["255", "1GB"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_with_its_variable_and_what_it_may_be(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{name}=")
    about = Settings.model_fields[name.removeprefix("SLUICE_").lower()].description
    assert about is not None
    assert line.endswith(f"({about})")
    assert len(line) > len(f"{name}={value!r}:  ({about})"), "says what is wrong with it"


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_WEB_PORT", "x")
    monkeypatch.setenv("SLUICE_TARGET", "y")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert {line.partition("=")[0] for line in str(refused.value).splitlines()} == {"SLUICE_WEB_PORT", "SLUICE_TARGET"}


def test_a_password_in_a_wrong_database_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_DATABASE_URL", "postgres://airflow:hunter2@db/airflow")
    with pytest.raises(SettingsError, match="SLUICE_DATABASE_URL") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("value", ["*/5 * * * *", "0 6 * * 1-5", "0,30 * 1 JAN *", "15 3 * * sun"])
def test_a_cron_expression_of_five_fields_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_DOCKERHUB_PULL_SCHEDULE", value)
    assert load_settings().dockerhub_pull_schedule == value


def test_blanks_and_duplicates_of_repositories_are_removed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "SLUICE_DOCKERHUB_REPOSITORIES",
        " library/redis ,localstack/localstack,, library/redis,\tgrafana/k6-x.y_z ,localstack/localstack,",
    )
    assert load_settings().dockerhub_repositories == ("library/redis", "localstack/localstack", "grafana/k6-x.y_z")


def test_the_wrong_one_of_many_repositories_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_DOCKERHUB_REPOSITORIES", "library/redis,library/,a/b")
    with pytest.raises(SettingsError, match="'library/' is not namespace/name"):
        load_settings()


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"SLUICE_{name.upper()}", "")
    assert load_settings() == Settings(_env_file=None)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("SLUICE_WEB_PORT=1\nSLUICE_AWS_PORT=2\nPOSTGRES_PASSWORD=someone else's\n")
    monkeypatch.setenv("SLUICE_AWS_PORT", "3")
    settings = Settings(_env_file=file)
    assert (settings.web_port, settings.aws_port) == (1, 3)


def test_settings_cannot_be_changed_under_way() -> None:
    settings: Any = load_settings()
    with pytest.raises(ValidationError):
        settings.web_port = 1


def test_settings_are_read_once() -> None:
    assert load_settings() is load_settings()


def test_home_is_the_same_folder_wherever_a_command_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(_env_file=None, home=Path("state")).home == PROJECT_ROOT / "state"
    assert Settings(_env_file=None, home=tmp_path).home == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(_env_file=None, home=Path("~/state")).home == tmp_path / "state"


def test_the_endpoint_is_that_of_the_target() -> None:
    assert Settings(_env_file=None, aws_port=4000).endpoint_url == "http://127.0.0.1:4000"
    assert Settings(_env_file=None, aws_endpoint_url="http://aws:4566").endpoint_url == "http://aws:4566"
    assert Settings(_env_file=None, target="aws", aws_endpoint_url="http://aws:4566").endpoint_url is None


def test_glue_maintains_the_tables_of_an_account_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TABLE_MAINTENANCE", "glue")
    with pytest.raises(SettingsError, match="needs SLUICE_TARGET=aws, as the embedded AWS has no table optimizers"):
        load_settings()
    monkeypatch.setenv("SLUICE_TARGET", "aws")
    assert load_settings().table_maintenance == "glue"


def test_environments_do_not_share_a_queue() -> None:
    queues = {Settings(_env_file=None, environment=name).dockerhub_queue for name in ("dev", "prod")}
    assert queues == {"sluice-dev-dockerhub-raw", "sluice-prod-dockerhub-raw"}


def test_the_example_lists_every_setting_once_and_no_other() -> None:
    listed = [name for name, _ in EXAMPLE_LINE.findall(EXAMPLE.read_text())]
    assert sorted(listed) == sorted(f"SLUICE_{name.upper()}" for name in Settings.model_fields)


def test_the_example_shows_the_default_of_every_setting(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in EXAMPLE_LINE.findall(EXAMPLE.read_text())))
    assert Settings(_env_file=file) == Settings(_env_file=None)


def test_the_example_used_as_it_is_changes_nothing() -> None:
    assert Settings(_env_file=EXAMPLE) == Settings(_env_file=None)


def test_an_unknown_name_is_named_with_the_nearest_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("SLUICE_TARGT=aws\nPOSTGRES_PASSWORD=x\nSLUICE_WEB_PORT=1\nsluice_home=x\n")
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    monkeypatch.setenv("SLUICE_QQQQQQQQ", "x")
    assert unknown_settings() == [
        "SLUICE_QQQQQQQQ in the environment is not a setting and has no effect; .env.example lists all names",
        f"SLUICE_TARGT in {file} is not a setting and has no effect; the nearest name is SLUICE_TARGET",
    ]


@pytest.mark.parametrize(("older", "name"), RENAMED.items())
def test_a_setting_is_read_by_its_older_name_with_a_warning(
    older: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "on_demand" if name.endswith("billing") else "77"
    value = "a-name" if name.endswith(("stream", "table")) else value
    monkeypatch.setenv(f"SLUICE_{older.upper()}", value)
    assert str(getattr(load_settings(), name)) == value
    now = f"is now SLUICE_{name.upper()}; the older name is read until version 2"
    assert unknown_settings() == [f"SLUICE_{older.upper()} in the environment {now}"]


def test_the_name_of_a_setting_wins_over_its_older_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_BATCH_SIZE", "77")
    monkeypatch.setenv("SLUICE_ACCOMMODATIONS_MAX_MESSAGES", "78")
    assert load_settings().accommodations_max_messages == 78
    (sentence,) = unknown_settings()
    assert sentence.endswith("the older name is ignored here, as that one is set")


def test_the_environment_wins_over_the_file_also_by_an_older_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SLUICE_ACCOMMODATIONS_MAX_MESSAGES=78\n")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv("SLUICE_BATCH_SIZE", "77")
    assert load_settings().accommodations_max_messages == 77
    (sentence,) = unknown_settings()
    assert sentence.endswith("the older name is read until version 2")


def test_a_wrong_value_under_an_older_name_is_named_by_the_name_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_BATCH_SIZE", "none")
    with pytest.raises(SettingsError, match="SLUICE_ACCOMMODATIONS_MAX_MESSAGES='none'"):
        load_settings()


def test_settings_of_a_pipeline_begin_with_its_name() -> None:
    for model in Settings.__mro__:
        if issubclass(model, PipelineSettings) and model not in (PipelineSettings, Settings):
            pipeline = model.__module__.split(".")[-2]
            assert [name for name in inspect.get_annotations(model) if not name.startswith(f"{pipeline}_")] == []
