"""The embedded AWS can be started, stopped, killed and reset in any order, and its errors say what to do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from click.testing import CliRunner

from embedded_aws import FaultInjection, free_port, use_settings
from sluice import cli
from sluice.aws import sessions, sqs
from sluice.aws.emulator import EmbeddedServerError
from sluice.deployment.deploy import deploy
from sluice.settings import Settings
from sluice_dev.emulator import server


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of a server of one's own, which does not run yet and is stopped after the test."""
    settings = use_settings(monkeypatch, home=tmp_path / "home", aws_port=free_port())
    yield settings
    server.stop(settings)


def record_path(settings: Settings) -> Path:
    return settings.home / "aws" / "server.json"


def kill(info: server.ServerInfo) -> None:
    process = psutil.Process(info.pid)
    process.kill()
    process.wait(10)


def test_a_second_start_finds_the_first(own: Settings) -> None:
    first = server.start(own)
    second = server.start(own)
    assert (first.started, second.started) == (True, False)
    assert second.pid == first.pid


def test_two_starts_at_once_make_one_server(own: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        infos = list(pool.map(server.start, [own, own]))
    assert infos[0].pid == infos[1].pid
    assert sorted(info.started for info in infos) == [False, True]


def test_a_record_that_outlived_its_server_does_not_matter(own: Settings) -> None:
    killed = server.start(own)
    kill(killed)
    assert record_path(own).exists()
    assert server.status(own) is None
    assert server.stop(own) is False
    assert server.start(own).pid != killed.pid


def test_a_process_that_got_the_pid_of_a_dead_server_is_left_alone(own: Settings) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        created = psutil.Process(bystander.pid).create_time() - 3600
        record_path(own).parent.mkdir(parents=True)
        record_path(own).write_text(json.dumps({"pid": bystander.pid, "created": created}))
        assert server.status(own) is None
        assert server.stop(own) is False
        server.start(own)
        server.stop(own)
        assert bystander.poll() is None
        bystander.communicate(b"\n")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x", "created": 0}', '{"pid": -1, "created": 0}'])
def test_a_broken_record_is_no_server(own: Settings, content: str) -> None:
    record_path(own).parent.mkdir(parents=True)
    record_path(own).write_text(content)
    assert server.status(own) is None
    assert server.start(own).started


def test_a_port_in_use_is_named_with_its_process_and_the_setting(own: Settings) -> None:
    with socket.create_server(("127.0.0.1", own.aws_port)), pytest.raises(EmbeddedServerError) as raised:
        server.start(own)
    message = str(raised.value)
    assert str(own.aws_port) in message
    assert f"pid {os.getpid()}" in message
    assert "SLUICE_AWS_PORT" in message


def test_a_server_that_crashes_at_its_start_shows_the_end_of_its_log(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = [sys.executable, "-c", "import sys; sys.exit('no module named ministack')"]
    monkeypatch.setattr(server, "_command", lambda *_: (dying, {}))
    for _ in range(2):
        with pytest.raises(EmbeddedServerError) as raised:
            server.start(own)
        first, *last_words = str(raised.value).splitlines()
        assert str(own.home / "logs" / "aws.log") in first
        assert last_words == ["no module named ministack"]


def test_a_changed_port_asks_for_a_stop(own: Settings) -> None:
    server.start(own)
    moved = own.model_copy(update={"aws_port": free_port()})
    with pytest.raises(EmbeddedServerError, match="sluice aws stop"):
        server.start(moved)
    assert server.stop(moved)
    assert server.start(own).started


def test_state_survives_a_clean_stop(own: Settings) -> None:
    server.start(own)
    deploy(own)
    key = {"PK": {"S": "a"}, "SK": {"S": "b"}}
    sessions.client("dynamodb").put_item(TableName=own.dockerhub_table, Item=key)
    sessions.client("s3").put_object(Bucket=own.lake_bucket, Key="raw/dockerhub/a.json", Body=b"{}")
    queue_url = sessions.client("sqs").get_queue_url(QueueName="sluice-dev-dockerhub-raw")["QueueUrl"]
    sessions.client("sqs").send_message(QueueUrl=queue_url, MessageBody="kept")
    server.stop(own)
    server.start(own)
    assert not any(stack.changes for stack in deploy(own))
    assert sessions.client("dynamodb").get_item(TableName=own.dockerhub_table, Key=key)["Item"] == key
    assert sessions.client("s3").get_object(Bucket=own.lake_bucket, Key="raw/dockerhub/a.json")["Body"].read() == b"{}"
    messages = sessions.client("sqs").receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)["Messages"]
    assert "kept" in [message["Body"] for message in messages]


def test_a_kill_loses_neither_objects_nor_what_was_deployed(own: Settings) -> None:
    info = server.start(own)
    deploy(own)
    sessions.client("s3").put_object(Bucket=own.lake_bucket, Key="raw/dockerhub/a.json", Body=b"{}")
    kill(info)
    server.start(own)
    # A table whose entry in the catalog was not saved is registered again from its files.
    assert not any(stack.changes for stack in deploy(own) if stack.stack_name != "tables")
    assert sessions.client("s3").get_object(Bucket=own.lake_bucket, Key="raw/dockerhub/a.json")["Body"].read() == b"{}"
    listed = sessions.client("s3").list_objects_v2(Bucket=own.lake_bucket, Prefix="raw/")["Contents"]
    assert [entry["Key"] for entry in listed] == ["raw/dockerhub/a.json"]
    queues = [own.dockerhub_queue, own.accommodations_queue, own.datasets_queue]
    assert [sqs.queue_counts(name) for name in queues] == [(0, 0)] * 3, "test events of S3 start Dags without work"


def test_a_stop_does_not_wait_for_a_long_poll(own: Settings) -> None:
    server.start(own, faults=True)
    queue_url = sessions.client("sqs").create_queue(QueueName="quiet")["QueueUrl"]
    patient = boto3.session.Session().client(
        "sqs", config=Config(retries={"total_max_attempts": 1}), **sessions.connection_arguments(own)
    )
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(patient.receive_message, QueueUrl=queue_url, WaitTimeSeconds=20)
        requests = FaultInjection(str(own.endpoint_url), own.aws_account_id).requests
        while ("sqs", "ReceiveMessage") not in requests():
            assert not poll.done()
        server.stop(own)
        # Cut off: a poll that runs to its end answers that there is no message.
        with pytest.raises((BotoCoreError, ClientError)):
            poll.result()


def test_two_servers_run_side_by_side(own: Settings, tmp_path: Path) -> None:
    other = own.model_copy(update={"home": tmp_path / "other", "aws_port": free_port()})
    server.start(own)
    server.start(other)
    try:
        sessions.client("s3").create_bucket(Bucket="only-here")
        assert sessions.client_of("s3", other).list_buckets()["Buckets"] == []
    finally:
        assert server.stop(other)
    assert server.status(own) is not None


@pytest.mark.parametrize("running", [True, False])
def test_reset_forgets_everything(own: Settings, running: bool) -> None:
    server.start(own)
    deploy(own)
    if not running:
        server.stop(own)
    server.reset(own)
    assert (server.status(own) is not None) is running
    server.stop(own)
    server.start(own)
    assert sessions.client("s3").list_buckets()["Buckets"] == []
    assert sessions.client("dynamodb").list_tables()["TableNames"] == []
    assert sessions.client("cloudformation").describe_stacks()["Stacks"] == []


def test_a_stop_leaves_no_process_and_no_file_outside_its_home(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    info = server.start(own)
    deploy(own)
    open_files = [Path(file.path) for file in psutil.Process(info.pid).open_files()]
    assert all(path.is_relative_to(own.home) for path in open_files if path.is_relative_to("/tmp"))
    assert server.stop(own)
    assert not psutil.pid_exists(info.pid)
    assert not record_path(own).exists()
    assert not list(Path("/tmp").glob(f"ministack-{own.aws_port}*"))


def test_faults_cannot_be_injected_unless_asked_for_at_the_start(own: Settings) -> None:
    server.start(own)
    for path in ("faults", "requests"):
        answer = httpx.get(f"{own.endpoint_url}/_sluice/{path}", trust_env=False)
        assert answer.status_code == 404
    with pytest.raises(EmbeddedServerError, match="faults=False"):
        server.start(own, faults=True)


def test_the_commands_say_what_happened(own: Settings) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.main, ["aws", *arguments])
        return result.exit_code, result.output

    assert run("status") == (1, "Embedded AWS does not run\n")
    assert run("start")[1].startswith("Embedded AWS started: http://127.0.0.1:")
    assert run("start")[1].startswith("Embedded AWS runs already: ")
    code, status = run("status")
    assert code == 0
    assert f"port {own.aws_port}" in status
    assert "MiniStack" in status
    assert run("reset") == (0, "Embedded AWS is empty\n")
    assert run("stop") == (0, "Embedded AWS stopped\n")
    assert run("stop") == (0, "Embedded AWS does not run\n")


def test_serve_lets_the_name_of_a_container_in(own: Settings) -> None:
    command = [sys.executable, "-c", "from sluice_dev.emulator.server import aws; aws()", "serve"]
    environment = {**os.environ, "SLUICE_HOME": str(own.home), "SLUICE_AWS_PORT": str(own.aws_port)}
    with subprocess.Popen([*command, "--allowed-host", "aws:4566"], env=environment) as process:
        try:
            deadline = time.monotonic() + 30
            while server._identity(own, process.pid) is None:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(server.POLL_SECONDS)
            for host, status in (("aws:4566", 200), ("other:4566", 403)):
                answer = httpx.get(f"{own.endpoint_url}/_ministack/health", headers={"Host": host}, trust_env=False)
                assert answer.status_code == status
            assert server.status(own) is not None
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
