"""The Compose file and its image: no exposed ports, and this project's versions and settings."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import Any

import pytest
import yaml

from sluice.cli import main
from sluice.settings import PROJECT_ROOT, Settings
from sluice_dev.stack.compose import SECRETS
from sluice_dev.stack.lifecycle import SERVICES

TEXT = (PROJECT_ROOT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = {name: service for name, service in ALL.items() if "build" in service}
DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<operand>[^}]*))?\}")

services = pytest.mark.parametrize("name", ALL)


def locked_version(package: str) -> str:
    packages = tomllib.loads((PROJECT_ROOT / "uv.lock").read_text())["package"]
    (version,) = [each["version"] for each in packages if each["name"] == package]
    return str(version)


def interpolated(value: str) -> str:
    """A value as Compose reads it where `.env` holds the secrets and nothing else."""
    return VARIABLE.sub(lambda found: found["operand"] if found["operator"] == ":-" else "x", value)


def commands(service: dict[str, Any]) -> list[list[str]]:
    """Commands of a service, those in a shell line one by one."""
    command = service["command"]
    return [shlex.split(part) for part in command[2].split("&&")] if command[:2] == ["sh", "-ec"] else [command]


@services
def test_nothing_is_reachable_from_another_machine(name: str) -> None:
    service = ALL[name]
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service.get("network_mode") != "host"


@services
def test_no_service_has_more_rights_than_it_needs(name: str) -> None:
    service = ALL[name]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & service.keys()
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Named volumes only: no folder and no socket of the host.
    assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= COMPOSE["volumes"].keys()
    if name in OWN:
        assert service["cap_drop"] == ["ALL"]


def test_the_image_has_a_user_without_rights() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["sluice"]


def test_airflow_is_that_of_the_lock() -> None:
    assert {service["image"] for service in OWN.values()} == {f"sluice-airflow:{locked_version('apache-airflow')}"}
    assert "uv sync --frozen" in DOCKERFILE


def test_the_image_is_built_with_one_python_and_a_pinned_uv() -> None:
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"python:3.12-slim"}
    assert re.search(r"uv==\d+\.\d+\.\d+$", DOCKERFILE, re.MULTILINE)


def test_the_image_has_the_files_that_it_copies_and_no_others() -> None:
    lines = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert patterns[0] == "*"
    assert sorted(name for names in copied for name in names.split()) == sorted(sent)
    assert all((PROJECT_ROOT / name).exists() for name in sent)


@services
def test_every_service_is_watched_or_is_a_job_that_others_wait_for(name: str) -> None:
    if "healthcheck" not in ALL[name]:
        waits = [service.get("depends_on", {}).get(name, {}).get("condition") for service in ALL.values()]
        assert ALL[name]["restart"] == "no"
        assert "service_completed_successfully" in waits


@services
def test_what_a_service_waits_for_is_ready_and_not_just_there(name: str) -> None:
    conditions = {other: each["condition"] for other, each in ALL[name].get("depends_on", {}).items()}
    if name == "hub":
        assert conditions == {"scheduler": "service_started"}
    else:
        assert set(conditions.values()) <= {"service_healthy", "service_completed_successfully"}
        assert conditions.keys() <= {other for other, service in ALL.items() if "profiles" not in service}


@services
def test_no_secret_is_written_down(name: str) -> None:
    for variable, value in (ALL[name].get("environment") or {}).items():
        if variable in SECRETS:
            assert value == f"${{{variable}:?run 'make secrets' first}}"
        if "://" in str(value):
            credentials = re.search(r"://[^:/@]*:(.*)@", str(value))
            assert not credentials or VARIABLE.fullmatch(credentials[1])
        assert not re.search(r"PASSWORD|SECRET|KEY", variable) or variable in SECRETS


def test_what_compose_asks_for_is_what_make_secrets_makes() -> None:
    required = {found["name"] for found in VARIABLE.finditer(TEXT) if found["operator"] == ":?"}
    assert required == SECRETS.keys()


@pytest.mark.parametrize("name", sorted({found["name"] for found in VARIABLE.finditer(TEXT)}))
def test_every_variable_of_the_file_is_in_the_example(name: str) -> None:
    assert re.search(rf"^# {name}=", (PROJECT_ROOT / ".env.example").read_text(), re.MULTILINE)


def test_defaults_are_those_of_the_settings() -> None:
    for found in VARIABLE.finditer(TEXT):
        if found["operator"] == ":-":
            default = Settings.model_fields[found["name"].removeprefix("SLUICE_").lower()].default
            assert found["operand"] == str(default)
        else:
            assert found["operator"] == ":?"


@pytest.mark.parametrize("name", OWN)
def test_a_service_is_set_up_by_settings_that_exist_and_allow_it(name: str) -> None:
    environment = OWN[name].get("environment") or {}
    fields = {variable.removeprefix("SLUICE_").lower(): value for variable, value in environment.items()}
    assert all(variable.startswith("SLUICE_") for variable in environment), "Airflow's are made by sluice.environment"
    assert fields.keys() <= Settings.model_fields.keys()
    given: dict[str, Any] = {name: interpolated(str(value)) for name, value in fields.items() if value is not None}
    Settings(_env_file=None, **given)


@pytest.mark.parametrize("name", SERVICES)
def test_airflow_is_started_as_it_is_without_compose(name: str) -> None:
    assert ALL[name]["command"] == ["sluice", "airflow", *SERVICES[name]]


@pytest.mark.parametrize("name", OWN)
def test_commands_exist_with_their_options(name: str) -> None:
    checks = [OWN[name]["healthcheck"]["test"][1:]] if "healthcheck" in OWN[name] else []
    for command in commands(OWN[name]) + checks:
        program, *arguments = [interpolated(part) for part in command]
        if program == "python":
            assert arguments[0] == "-c" or arguments[:3] == ["-m", "sluice_dev.stack.compose", "health"]
            continue
        assert program == "sluice"
        group: Any = main
        while hasattr(group, "get_command"):
            with group.make_context(None, [*arguments[:1]], resilient_parsing=True) as context:
                found = group.get_command(context, arguments.pop(0))
            assert found, command
            group = found
        # Raises for an option that it does not know.
        group.make_context(None, arguments)


def test_each_part_of_airflow_is_watched_by_its_own_heartbeat() -> None:
    asked = {name: service["healthcheck"]["test"][-2:] for name, service in ALL.items() if name in SERVICES}
    local, server = (interpolated(f"http://{host}:${{SLUICE_WEB_PORT:-8080}}") for host in ("127.0.0.1", "api-server"))
    assert {name: [component, interpolated(url)] for name, (component, url) in asked.items()} == {
        "api-server": ["metadatabase", local],
        "scheduler": ["scheduler", server],
        "dag-processor": ["dag_processor", server],
        "triggerer": ["triggerer", server],
    }


def test_the_embedded_aws_accepts_the_host_and_port_of_compose() -> None:
    ((host, outside, inside),) = [port.rsplit(":${", 2) for port in ALL["aws"]["ports"]]
    assert outside == inside, "requests by another port than its own are refused"
    assert host == "127.0.0.1"
    allowed = ALL["aws"]["command"][ALL["aws"]["command"].index("--allowed-host") + 1]
    for name, service in OWN.items():
        if name not in ("aws", "hub"):
            assert service["environment"]["SLUICE_AWS_ENDPOINT_URL"] == f"http://{allowed}"
