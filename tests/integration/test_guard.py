"""No web page reaches the embedded AWS, and nothing of it can be reached from another machine."""

from __future__ import annotations

import json
import os

import httpx
import psutil
import pytest

from sluice.aws import sessions
from sluice.settings import Settings
from sluice_dev.emulator import server


def ask(
    settings: Settings, headers: dict[str, str], path: str = "/_ministack/health", method: str = "GET"
) -> httpx.Response:
    return httpx.request(method, f"{settings.endpoint_url}{path}", headers=headers, trust_env=False)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8080"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example:{port}"},
        {"Host": "localhost.evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "192.168.0.7:{port}"},
        {"Host": ""},
    ],
)
@pytest.mark.parametrize("path", ["/_ministack/health", "/", "/bucket/key", "/_sluice/server", "/_sluice/faults"])
def test_a_request_of_a_web_page_or_for_another_name_is_refused(
    embedded_server: Settings, headers: dict[str, str], path: str
) -> None:
    headers = {name: value.format(port=embedded_server.aws_port) for name, value in headers.items()}
    for method in ("GET", "POST", "OPTIONS", "PUT", "DELETE"):
        answer = ask(embedded_server, headers, path, method)
        assert answer.status_code == 403
        assert len(answer.text.splitlines()) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "bucket.s3.localhost:{port}"]
)
def test_this_machine_gets_in_by_its_own_names(embedded_server: Settings, host: str) -> None:
    answer = ask(embedded_server, {"Host": host.format(port=embedded_server.aws_port)})
    assert answer.status_code == 200


def test_a_refused_reset_wipes_nothing(settings: Settings) -> None:
    sessions.client("s3").create_bucket(Bucket=settings.lake_bucket)
    assert ask(settings, {"Origin": "https://evil.example"}, "/_ministack/reset", "POST").status_code == 403
    assert [bucket["Name"] for bucket in sessions.client("s3").list_buckets()["Buckets"]] == [settings.lake_bucket]


def test_an_answer_may_not_be_read_by_other_origins(settings: Settings) -> None:
    answer = ask(settings, {}, "/")
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_a_websocket_of_a_web_page_is_refused(embedded_server: Settings) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Origin": "https://evil.example",
    }
    assert ask(embedded_server, upgrade, "/_aws/execute-api/abcdef12/stage").status_code == 403


def test_nothing_listens_beyond_this_machine(embedded_server: Settings) -> None:
    info = server.status(embedded_server)
    assert info is not None
    listening = [
        tuple(connection.laddr)
        for connection in psutil.Process(info.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN or not connection.raddr
    ]
    assert listening == [("127.0.0.1", embedded_server.aws_port)]


def test_the_server_does_not_inherit_the_environment_of_its_user(
    tmp_path_factory: pytest.TempPathFactory, embedded_server: Settings
) -> None:
    info = server.status(embedded_server)
    assert info is not None
    environment = psutil.Process(info.pid).environ()
    assert not [name for name in environment if name.startswith(("AWS_", "SLUICE_", "PYTEST", "LOCALSTACK"))]
    home = str(embedded_server.home)
    assert all(environment[name].startswith(home) for name in ("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"))
    assert json.dumps(dict(os.environ)) not in json.dumps(environment)
