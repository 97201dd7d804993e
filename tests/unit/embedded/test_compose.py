"""`make secrets` never loses existing lines, and a health check detects parts that run but do not work."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from sluice.settings import PROJECT_ROOT
from sluice_dev.stack import compose
from sluice_dev.stack.compose import SECRETS, NotHealthy, check_health, with_secrets, write_env_file

NAME = "POSTGRES_PASSWORD"

lines = st.one_of(
    st.sampled_from(["", "# a comment", "SLUICE_WEB_PORT=8081", "  # POSTGRES_PASSWORD=example", "no assignment"]),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "export ", "  "]),
        st.sampled_from([*SECRETS, "OTHER", "MY_POSTGRES_PASSWORD"]),
        st.sampled_from(["=", " = ", "= "]),
        st.sampled_from(["", "''", '""', "kept", "'kept too'", "a=b=", " # nothing", "x # why"]),
    ),
)
files = st.lists(lines, max_size=8).map("\n".join)


def values_of(text: str, folder: Path) -> dict[str, str | None]:
    """What the settings read from a `.env` with this text."""
    file = folder / "read.env"
    file.write_text(text)
    return dict(dotenv_values(file))


@given(files)
def test_what_has_a_value_keeps_it_and_all_else_gets_one(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    before = values_of(text, folder)
    after_text, made = with_secrets(text)
    after = values_of(after_text, folder)
    assert made == [name for name in SECRETS if not before.get(name)]
    assert all(after[name] for name in SECRETS)
    assert {name: value for name, value in after.items() if name not in made} == {
        name: value for name, value in before.items() if name not in made
    }


@given(files)
def test_a_second_time_changes_nothing(text: str) -> None:
    once, _ = with_secrets(text)
    assert with_secrets(once) == (once, [])


@given(files)
def test_every_line_that_is_not_an_empty_secret_stays_where_it_is(text: str) -> None:
    after, made = with_secrets(text)
    changed = [
        (old, new)
        for old, new in zip(text.split("\n"), after.split("\n"), strict=False)
        if old != new and not (old == "" and new)
    ]
    assert all(any(name in old and new.startswith(f"{name}=") for name in made) for old, new in changed)


def test_an_empty_secret_is_filled_where_it_stands() -> None:
    after, _ = with_secrets("SLUICE_WEB_PASSWORD=\nSLUICE_WEB_PORT=8081\n")
    first, second, *others = after.splitlines()
    assert (first[:20], second) == ("SLUICE_WEB_PASSWORD=", "SLUICE_WEB_PORT=8081")
    assert len(others) == len(SECRETS) - 1


def test_no_two_secrets_are_the_same(tmp_path: Path) -> None:
    first, second = (values_of(with_secrets("")[0], tmp_path) for _ in range(2))
    assert len({*first.values(), *second.values()}) == 2 * len(SECRETS)


def test_the_secrets_are_what_their_users_take() -> None:
    assert Fernet(SECRETS["SLUICE_FERNET_KEY"]()).encrypt(b"x")
    # It becomes part of a URL.
    assert SECRETS[NAME]().isalnum()
    assert all(len(make()) >= 16 for make in SECRETS.values())


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert write_env_file(path) == list(SECRETS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert write_env_file(path) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_to_a_file_elsewhere_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "sluice.env"
    real.parent.mkdir()
    real.write_text(f"{NAME}=mine\n")
    link = tmp_path / ".env"
    link.symlink_to(real)
    write_env_file(link)
    assert link.is_symlink()
    assert dotenv_values(real)[NAME] == "mine"


def test_two_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_have_read = threading.Barrier(2, timeout=0.5)

    def wait_for_the_other(text: str) -> tuple[str, list[str]]:
        # Taking turns, the first waits in vain for the second to read what it has not written yet.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_read.wait()
        return with_secrets(text)

    monkeypatch.setattr(compose, "with_secrets", wait_for_the_other)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(write_env_file, [tmp_path / ".env"] * 2))
    assert sorted(made, key=len) == [[], list(SECRETS)]


def test_an_interruption_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".env"
    path.write_text("SLUICE_WEB_PORT=8081\n")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_env_file(path)
    assert path.read_text() == "SLUICE_WEB_PORT=8081\n"
    assert list(tmp_path.iterdir()) == [path]


def test_it_runs_before_anything_is_installed(tmp_path: Path) -> None:
    # -S: without site-packages.
    command = [sys.executable, "-S", "-m", "sluice_dev.stack.compose", "secrets", str(tmp_path / ".env")]
    environment = {"PYTHONPATH": str(PROJECT_ROOT / "include")}
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert all(name in first for name in SECRETS)
    assert second.endswith("has all secrets\n")
    shown = [value for value in dotenv_values(tmp_path / ".env").values() if value and value in first + second]
    assert shown == []


HEALTH_PATH, EXECUTION_PATH = "/api/v2/monitor/health", "/execution/health"


def serve_health(web: HTTPServer, **states: str | None) -> str:
    """A web server of Airflow that answers with these states of its parts; its address."""
    parts = {"metadatabase": "healthy", "scheduler": "healthy", "triggerer": "healthy", "dag_processor": "healthy"}
    web.expect_request(HEALTH_PATH).respond_with_json(
        {name: {"status": each} for name, each in (parts | states).items()}
    )
    web.expect_request(EXECUTION_PATH).respond_with_json({"status": "healthy"})
    return web.url_for("").rstrip("/")


def test_a_part_with_a_fresh_heartbeat_is_healthy_for_any_others(httpserver: HTTPServer) -> None:
    url = serve_health(httpserver, triggerer="unhealthy", dag_processor=None)
    check_health("scheduler", url)
    check_health("metadatabase", url)


@pytest.mark.parametrize("state", ["unhealthy", None])
def test_a_part_without_one_is_named(httpserver: HTTPServer, state: str | None) -> None:
    url = serve_health(httpserver, triggerer=state)
    with pytest.raises(NotHealthy, match="triggerer"):
        check_health("triggerer", url)


def test_a_part_that_airflow_does_not_know_is_not_healthy(httpserver: HTTPServer) -> None:
    with pytest.raises(NotHealthy, match="worker"):
        check_health("worker", serve_health(httpserver))


def test_the_web_server_is_ready_only_when_tasks_can_report_to_it(httpserver: HTTPServer) -> None:
    httpserver.expect_request(HEALTH_PATH).respond_with_json({"metadatabase": {"status": "healthy"}})
    httpserver.expect_request(EXECUTION_PATH).respond_with_data(status=503)
    with pytest.raises(NotHealthy, match="503"):
        check_health("metadatabase", httpserver.url_for("").rstrip("/"))


def test_a_web_server_that_is_not_there_is_named(unused_tcp_port_url: str) -> None:
    with pytest.raises(NotHealthy, match=unused_tcp_port_url):
        check_health("scheduler", unused_tcp_port_url)


@pytest.fixture
def unused_tcp_port_url() -> str:
    from embedded_aws import free_port

    return f"http://127.0.0.1:{free_port()}"


def test_no_proxy_is_asked(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, unused_tcp_port_url: str) -> None:
    monkeypatch.setenv("http_proxy", unused_tcp_port_url)
    check_health("scheduler", serve_health(httpserver))


def test_a_failed_check_ends_with_1_and_says_why(unused_tcp_port_url: str) -> None:
    with pytest.raises(SystemExit, match="does not answer"):
        compose.main(["health", "scheduler", unused_tcp_port_url])


def test_other_arguments_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(SystemExit, match="secrets FILE"):
        compose.main(["secrets"])
