"""`sluice up`: the whole stack in the foreground, each service started, watched and stopped on its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from rich.console import Console

from sluice.deploy import deploy
from sluice.embedded import airflow, postgres, process_record, server
from sluice.embedded.dockerhub import DockerHubStandIn
from sluice.environment import web_url
from sluice.errors import SluiceError
from sluice.settings import Settings

READY_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 20
DOWN_TIMEOUT_SECONDS = 120

SERVICES = {
    "api-server": ["api-server"],
    # Logs are read from the files of this machine, so nobody needs to serve them (on every interface, by default).
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


class StackFailed(SluiceError):
    """A service did not start, or ended by itself."""


@dataclass
class Service:
    """One running process of the stack."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def ended_message(self) -> str:
        """What a person reads when the process has ended by itself: its last lines, and where all of them are."""
        last = self.log.read_text(errors="replace").splitlines()[-15:]
        return f"{self.name} ended with {self.process.returncode}; last lines of {self.log}:\n  " + "\n  ".join(last)


def services_environment(airflow_variables: dict[str, str]) -> dict[str, str]:
    """Variables of the four services."""
    return (
        dict(os.environ)
        | airflow_variables
        | {
            # Airflow imports its plugins and Dags again and again; without byte code each import is slow.
            "PYTHONDONTWRITEBYTECODE": "",
        }
    )


def start(settings: Settings, environment: dict[str, str]) -> list[Service]:
    """The four services of Airflow, healthy.

    Raises:
        StackFailed: the port is taken, or a service ended or was not healthy in time; none is left.
    """
    _require_free_port(settings.web_port)
    services: list[Service] = []
    try:
        for name, arguments in SERVICES.items():
            services.append(_start(name, arguments, settings, environment))
        _wait_until_healthy(settings, services)
    except BaseException:
        stop(services)
        raise
    return services


def up(settings: Settings, console: Console, *, live: bool) -> None:
    """Run everything until ctrl-C or `sluice down`; nothing of it is left afterwards.

    Args:
        settings: the settings of this process.
        console: where to say what happens.
        live: pull from the real Docker Hub instead of its stand-in.

    Raises:
        StackFailed: it runs already, or a service did not start or ended by itself.
    """
    record = _record(settings)
    if (other := process_record.find(record)) is not None:
        raise StackFailed(f"it is up already (process {other.pid}, {web_url(settings)}); `sluice down` stops it")
    process_record.write(record)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    try:
        with console.status("embedded AWS"):
            server.start(settings)
            deploy(settings)
        with console.status("PostgreSQL"):
            environment = services_environment(airflow.prepare(settings))
            password = airflow.password(settings)
        hub = contextlib.nullcontext() if live else DockerHubStandIn()
        with hub as stand_in:
            if stand_in is not None:
                environment["SLUICE_DOCKERHUB_URL"] = stand_in.url
            with console.status("Airflow"):
                services = start(settings, environment)
            try:
                console.print(f"[bold]Airflow is up:[/] {web_url(settings)}  user {airflow.USER}  password {password}")
                console.print(f"logs: {settings.home / 'logs'}   stop: ctrl-C, or `make down` in another shell")
                while not stopping.wait(1):
                    require_alive(services)
            finally:
                with console.status("stopping"):
                    stop(services)
    finally:
        try:
            postgres.stop(settings)
        finally:
            server.stop(settings)
            record.unlink(missing_ok=True)
    console.print("Everything is stopped.")


def down(settings: Settings) -> list[str]:
    """Stop what runs of this checkout, in whichever shell it was started; returns what was stopped.

    Raises:
        StackFailed: the process of `sluice up` does not end.
    """
    stopped = []
    if (process := process_record.find(_record(settings))) is not None:
        process.terminate()
        deadline = time.monotonic() + DOWN_TIMEOUT_SECONDS
        # Not process.wait(): a process that has ended is there until its parent takes note.
        while process_record.find(_record(settings)) is not None:
            if time.monotonic() > deadline:
                raise StackFailed(
                    f"process {process.pid} of `sluice up` does not end; kill it, then run `sluice down` again"
                )
            time.sleep(0.1)
        stopped += ["Airflow", "PostgreSQL", "embedded AWS"]
    if postgres.stop(settings):
        stopped.append("PostgreSQL")
    if server.stop(settings):
        stopped.append("embedded AWS")
    return stopped


def _record(settings: Settings) -> Path:
    return settings.home / "up.json"


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackFailed(
                f"port {port} of the web UI cannot be used ({error.strerror}); stop what has it, or set SLUICE_WEB_PORT"
            ) from None


def _start(name: str, arguments: list[str], settings: Settings, environment: dict[str, str]) -> Service:
    log = settings.home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Not in the terminal's group: ctrl-C reaches us alone, and we stop them in order.
            start_new_session=True,
        )
    return Service(name, process, log)


def _wait_until_healthy(settings: Settings, services: list[Service]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    waiting_for = "the web UI"
    while time.monotonic() < deadline:
        require_alive(services)
        with contextlib.suppress(URLError, OSError, json.JSONDecodeError):
            # Asked first because it also imports what the first task would otherwise wait for.
            with urlopen(f"{web_url(settings)}/execution/health", timeout=5):
                pass
            with urlopen(f"{web_url(settings)}/api/v2/monitor/health", timeout=5) as answer:
                states = json.load(answer)
            waiting_for = ", ".join(name for name, state in states.items() if state and state["status"] != "healthy")
            if not waiting_for:
                return
        time.sleep(0.2)
    raise StackFailed(f"not healthy after {READY_TIMEOUT_SECONDS} s: {waiting_for}; see {settings.home / 'logs'}")


def require_alive(services: list[Service]) -> None:
    """Every service runs.

    Raises:
        StackFailed: one has ended, with the end of its log.
    """
    for service in services:
        if service.process.poll() is not None:
            raise StackFailed(service.ended_message())


def stop(services: list[Service]) -> None:
    """Stop services, the last started first, and every process that they left.

    The API server goes last: a task under way speaks to it, and gets `STOP_TIMEOUT_SECONDS` to end by itself. One that
    is killed runs again, which every task bears.
    """
    for group in (services[1:], services[:1]):
        left: list[psutil.Process] = []
        for service in reversed(group):
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(service.process.pid)
                left += [*parent.children(recursive=True), parent]
            service.process.terminate()
        alive = psutil.wait_procs(left, timeout=STOP_TIMEOUT_SECONDS)[1]
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for service in group:
            service.process.wait()
