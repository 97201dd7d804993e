"""Start, stop and reset the embedded AWS: one server for each SLUICE_HOME, on 127.0.0.1:SLUICE_AWS_PORT.

All of its state lies below SLUICE_HOME/aws and survives a clean stop and start. Objects of S3 are on disk at once, all
else is saved by a clean stop and by a deploy that changed something: `kill -9` or a power cut loses what came after
(messages, items, stream records), but not the infrastructure of the pipelines.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
import psutil

from sluice.aws.emulator import EmbeddedServerError, request
from sluice.settings import Settings, load_settings
from sluice_dev import log_files, process_record
from sluice_dev.emulator.guard import IDENTITY_PATH, Configuration

START_DEADLINE_SECONDS = 60.0
STOP_DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ServerInfo:
    """A running server that answers. `started` is False if it was running before."""

    pid: int
    port: int
    endpoint_url: str
    version: str
    faults: bool
    started: bool = False


def start(settings: Settings, *, faults: bool = False) -> ServerInfo:
    """Start the server in the background and wait until it answers; a running one is kept.

    `faults` lets the process take fault injection rules (tests only).

    Raises:
        EmbeddedServerError: the port is taken, the server ended at its start, or it runs with another configuration.
    """
    with _only_one(settings):
        running = status(settings)
        if running is not None:
            if running.faults != faults:
                raise EmbeddedServerError(
                    f"The embedded AWS runs already (pid {running.pid}) with faults={running.faults}."
                )
            return running
        _refuse_taken_port(settings)
        command, environment = _command(
            settings, Configuration(_record_path(settings), settings.aws_port, faults=faults)
        )
        log = log_path(settings)
        log_files.rotate(log)
        with log.open("ab") as output:
            log_start_bytes = output.tell()
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=_folder(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return _await_answer(settings, process, log, log_start_bytes)
        except BaseException:
            # It cannot be found later: the server writes its record when it answers.
            process.kill()
            process.wait()
            raise


def _await_answer(settings: Settings, process: subprocess.Popen[bytes], log: Path, log_start_bytes: int) -> ServerInfo:
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    while True:
        info = _identity(settings, process.pid)
        if info is not None:
            return replace(info, started=True)
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_bytes()[log_start_bytes:].decode(errors="replace").splitlines()[-10:]
            how = "does not answer" if process.returncode is None else f"ended with {process.returncode}"
            raise EmbeddedServerError("\n".join([f"The embedded AWS {how}; the end of {log}:", *said]))
        time.sleep(POLL_SECONDS)


def stop(settings: Settings) -> bool:
    """Stop the server and wait for its clean save. False when none ran; never touches another process.

    After `STOP_DEADLINE_SECONDS` it is killed, and unsaved state is lost.
    """
    with _only_one(settings):
        process = process_record.find(_record_path(settings))
        if process is None:
            return False
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
        _record_path(settings).unlink(missing_ok=True)
        return True


def status(settings: Settings) -> ServerInfo | None:
    """The server of this SLUICE_HOME, or None when none runs.

    Raises:
        EmbeddedServerError: it runs, but not on SLUICE_AWS_PORT, or it does not answer.
    """
    process = process_record.find(_record_path(settings))
    if process is None:
        return None
    info = _identity(settings, process.pid)
    if info is None:
        raise EmbeddedServerError(
            f"The embedded AWS of {settings.home} runs (pid {process.pid}) but does not answer on port "
            f"{settings.aws_port}. Run `sluice aws stop` first (also when SLUICE_AWS_PORT was changed)."
        )
    return info


def is_running(settings: Settings) -> bool:
    """Whether the server process of this SLUICE_HOME exists, on any port; sends no request."""
    return process_record.find(_record_path(settings)) is not None


def processes(settings: Settings) -> list[psutil.Process]:
    """The process of the server, if it runs."""
    process = process_record.find(_record_path(settings))
    return [process] if process else []


def reset(settings: Settings) -> None:
    """Forget everything in every account, whether the server runs or not.

    Raises:
        EmbeddedServerError: the server runs but does not answer.
    """
    with _only_one(settings):
        running = status(settings)
        if running is None:
            for name in ("state", "s3"):
                shutil.rmtree(_folder(settings) / name, ignore_errors=True)
        else:
            request("POST", f"{running.endpoint_url}/_ministack/reset", timeout_seconds=60)


def _folder(settings: Settings) -> Path:
    folder = settings.home / "aws"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _record_path(settings: Settings) -> Path:
    return _folder(settings) / "server.json"


def log_path(settings: Settings) -> Path:
    """The log of the server's process."""
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "aws.log"


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Two commands at once take turns; the lock goes with its process, however that ends."""
    with (_folder(settings) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _command(settings: Settings, configuration: Configuration) -> tuple[list[str], dict[str, str]]:
    """Command line and whole environment of the server process.

    The environment is made from nothing: the emulator reads dozens of variables, writes to /tmp by default, talks to a
    Docker daemon if it finds one, and must not see the AWS credentials of the user.
    """
    folder = _folder(settings)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "GATEWAY_PORT": str(configuration.port),
        "BIND_HOST": configuration.bind,
        "MINISTACK_REGION": settings.aws_region,
        "LOG_LEVEL": "WARNING",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "s3"),
        # Neither is used here, and both would listen on all interfaces.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
    }
    return [sys.executable, "-m", "sluice_dev.emulator.guard", configuration.to_json()], environment


def _identity(settings: Settings, pid: int) -> ServerInfo | None:
    """Response of the server on the port, if it is the process with this pid."""
    endpoint_url = f"http://127.0.0.1:{settings.aws_port}"
    try:
        answer = json.loads(request("GET", endpoint_url + IDENTITY_PATH, timeout_seconds=5))
    except (EmbeddedServerError, ValueError):
        return None
    if not isinstance(answer, dict) or answer.get("pid") != pid:
        return None
    return ServerInfo(pid, settings.aws_port, endpoint_url, answer["version"], answer["faults"])


def _refuse_taken_port(settings: Settings) -> None:
    port = settings.aws_port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EmbeddedServerError(
                f"Port {port} cannot be used ({error.strerror}{_port_owner(port)}). "
                "Stop that process, or set SLUICE_AWS_PORT to a free port."
            ) from None


def _port_owner(port: int) -> str:
    """`: pid 7, dockerd`; "" if this user may not see it."""
    try:
        connections = psutil.net_connections(kind="tcp")
        pid = next(c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr[1:] == (port,) and c.pid)
        return f": pid {pid}, {psutil.Process(pid).name()}"
    except (psutil.Error, StopIteration):
        return ""


@click.group()
def aws() -> None:
    """The embedded AWS on this machine."""


@aws.command(name="start")
def start_command() -> None:
    """Start it in the background and wait until it answers."""
    info = start(load_settings())
    click.echo(f"Embedded AWS {'started' if info.started else 'runs already'}: {info.endpoint_url} (pid {info.pid})")


@aws.command(name="stop")
def stop_command() -> None:
    """Stop it; its state is saved."""
    click.echo("Embedded AWS stopped" if stop(load_settings()) else "Embedded AWS does not run")


@aws.command(name="status")
def status_command() -> None:
    """Print whether it runs: exit code 0 if it does, else 1."""
    info = status(load_settings())
    if info is None:
        click.echo("Embedded AWS does not run")
        sys.exit(1)
    click.echo(f"Embedded AWS runs: {info.endpoint_url} (pid {info.pid}, port {info.port}, MiniStack {info.version})")


@aws.command(name="reset")
def reset_command() -> None:
    """Delete all buckets, queues, tables and stacks in it."""
    reset(load_settings())
    click.echo("Embedded AWS is empty")


@aws.command(name="serve")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME:PORT",
    help="Additional host header to accept.",
)
def serve_command(bind: str, allowed_hosts: tuple[str, ...]) -> None:
    """Serve in the foreground (for a container)."""
    settings = load_settings()
    hosts = frozenset(host.lower() for host in allowed_hosts)
    command, environment = _command(settings, Configuration(_record_path(settings), settings.aws_port, bind, hosts))
    os.execve(command[0], command, environment)
