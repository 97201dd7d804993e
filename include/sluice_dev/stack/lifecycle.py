"""`sluice up`: the whole stack in the foreground, each part started, watched, started again and stopped on its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from sluice.core.run import utc_now
from sluice.deployment.deploy import deploy
from sluice.deployment.older_hours import move_older_hours
from sluice.environment import web_url
from sluice.errors import SluiceError
from sluice.settings import Settings
from sluice_dev import log_files, process_record
from sluice_dev.dockerhub import DockerHubStandIn
from sluice_dev.emulator import server
from sluice_dev.stack import airflow, postgres, sessions
from sluice_dev.stack.supervisor import Component, Supervisor

READY_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 20
ORPHANS_TIMEOUT_SECONDS = 5
DOWN_TIMEOUT_SECONDS = 120
CLEANING_SECONDS = 3600

SERVICES = {
    "api-server": ["api-server"],
    # Logs are read from the files of this machine, so no server for them is needed (by default on every interface).
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


class StackFailed(SluiceError):
    """The stack did not start; the message names the part and its log."""


class IsUp(StackFailed):
    """Another process runs the stack of this SLUICE_HOME."""


@dataclass
class Stack:
    """What runs.

    Attributes:
        settings: the settings that it was started with.
        environment: variables of the services of Airflow.
        services: the session of each, replaced when it is started again.
    """

    settings: Settings
    environment: dict[str, str]
    services: dict[str, sessions.Session]

    def start_service(self, name: str) -> None:
        """Start a service of Airflow, after stopping leftovers of an earlier one (workers of a killed scheduler)."""
        record = _record_folder(self.settings) / f"{name}.session"
        sessions.end([record], ORPHANS_TIMEOUT_SECONDS)
        log = self.settings.home / "logs" / f"{name}.log"
        log_files.rotate(log)
        command = [sys.executable, "-m", "airflow", *SERVICES[name]]
        self.services[name] = sessions.start(record, command, self.environment, log)

    def require_running(self) -> None:
        """Every service runs.

        Raises:
            StackFailed: one has ended, with the end of its log.
        """
        for session in self.services.values():
            if session.process.poll() is not None:
                raise StackFailed(
                    f"{session.name} ended with {session.process.returncode}; last lines of {session.log}:\n  "
                    + "\n  ".join(session.last_lines())
                )

    def components(self) -> list[Component]:
        """All background processes that are restarted when they end, in the order of their dependencies."""
        settings, found = self.settings, []
        if not settings.database_url:
            found.append(
                Component(
                    "PostgreSQL",
                    postgres.log_path(settings),
                    partial(postgres.start, settings),
                    partial(postgres.is_running, settings),
                )
            )
        if needs_embedded_aws(settings):
            found.append(
                Component(
                    "embedded AWS",
                    server.log_path(settings),
                    partial(_start_embedded_aws, settings),
                    partial(server.is_running, settings),
                    "Objects of S3 are as they were; messages, items and stream records since its last clean stop or "
                    "deploy are lost, and what it had of the stacks is deployed again",
                )
            )
        return found + [self._service(name) for name in self.services]

    def _service(self, name: str) -> Component:
        return Component(
            name,
            self.services[name].log,
            partial(self.start_service, name),
            lambda: self.services[name].process.poll() is None,
        )

    def bound_logs(self) -> None:
        """Rotate the logs that reached their limit."""
        for session in self.services.values():
            log_files.rotate(session.log, partial(sessions.members, session.record))
        log_files.rotate(server.log_path(self.settings), partial(server.processes, self.settings))
        log_files.rotate(postgres.log_path(self.settings), partial(postgres.processes, self.settings))

    def stop(self) -> None:
        """Stop the services, and every process that they left.

        The API server goes last: a running task needs it, and gets `STOP_TIMEOUT_SECONDS` to end. One
        that is killed runs again, which every task bears.
        """
        end_services(self.settings)


def needs_embedded_aws(settings: Settings) -> bool:
    """Whether the endpoint of these settings is the emulator of this SLUICE_HOME."""
    return settings.target == "embedded" and settings.aws_endpoint_url is None


def services_environment(airflow_variables: dict[str, str]) -> dict[str, str]:
    """Variables of the services."""
    return (
        dict(os.environ)
        | airflow_variables
        | {
            # Airflow imports its plugins and Dags repeatedly; without byte code each import is slow.
            "PYTHONDONTWRITEBYTECODE": "",
        }
    )


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Be the one process that runs the stack of this SLUICE_HOME, recorded for `down`.

    Raises:
        IsUp: another one is.
    """
    with _lock(settings) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = process_record.find(_record(settings))
            process = f"process {other.pid}, " if other else ""
            raise IsUp(f"it is up already ({process}{web_url(settings)}); `sluice down` stops it") from None
        process_record.write(_record(settings))
        try:
            yield
        finally:
            _record(settings).unlink(missing_ok=True)


def start(
    settings: Settings,
    console: Console,
    undo: ExitStack,
    *,
    services: tuple[str, ...] = tuple(SERVICES),
    extra_environment: Callable[[], dict[str, str]] = dict,
    stopping: threading.Event | None = None,
) -> Stack:
    """Start the embedded AWS, PostgreSQL and services of Airflow, and wait until they are healthy.

    Args:
        settings: the settings of this process.
        console: for progress messages.
        undo: gets a callback for each part that this call started; one that ran before gets none.
        services: names of the services to start.
        extra_environment: returns additional variables of the services; called before they are started.
        stopping: the start is aborted when it is set.

    Raises:
        SluiceError: a part did not start; `undo` has callbacks for those started before.
    """
    if left := end_services(settings):
        console.print(f"Stopped processes of a killed stack: {', '.join(left)}")
    require_free_port(settings.web_port)
    with console.status("embedded AWS"):
        if needs_embedded_aws(settings) and server.start(settings).started:
            undo.callback(server.stop, settings)
        deploy(settings)
        move_older_hours(settings, utc_now())
    with console.status("PostgreSQL"):
        if not (settings.database_url or postgres.is_running(settings)):
            undo.callback(postgres.stop, settings)
        environment = services_environment(airflow.prepare(settings))
    environment |= extra_environment()
    stack = Stack(settings, environment, {})
    undo.callback(stack.stop)
    with console.status("Airflow"):
        for name in services:
            stack.start_service(name)
        _wait_until_healthy(stack, stopping or threading.Event())
    return stack


def up(settings: Settings, console: Console, *, live: bool) -> None:
    """Run everything until ctrl-C or `sluice down`; all processes have ended afterwards.

    A part that ends is restarted. A failed start stops only the parts that it started.

    Args:
        settings: the settings of this process.
        console: for progress messages.
        live: pull from the real Docker Hub instead of its stand-in.

    Raises:
        IsUp: it runs already.
        StackFailed: a service did not start.
        GaveUp: a part ended repeatedly.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    with exclusive(settings), contextlib.nullcontext() if live else DockerHubStandIn() as stand_in:
        with ExitStack() as undo:
            stack = start(
                settings,
                console,
                undo,
                extra_environment=lambda: {"SLUICE_DOCKERHUB_URL": stand_in.url} if stand_in else {},
                stopping=stopping,
            )
            undo.pop_all()
        try:
            password = airflow.password(settings)
            console.print(f"[bold]Airflow is up:[/] {web_url(settings)}  user {airflow.USER}  password {password}")
            console.print(
                f"logs: {settings.home / 'logs'}   stop: ctrl-C, or `make down` in another shell", soft_wrap=True
            )
            _watch(stack, console, stopping)
        finally:
            with console.status("stopping"), ExitStack() as last:
                last.callback(server.stop, settings)
                last.callback(postgres.stop, settings)
                last.callback(stack.stop)
    console.print("Everything is stopped.")


def _watch(stack: Stack, console: Console, stopping: threading.Event) -> None:
    supervisor = Supervisor(stack.components(), console.print)
    clean_at = time.monotonic()
    while not stopping.wait(1):
        supervisor.check()
        stack.bound_logs()
        if time.monotonic() >= clean_at:
            log_files.remove_older(stack.settings.home / "logs" / "airflow", stack.settings.log_retention_days)
            clean_at = time.monotonic() + CLEANING_SECONDS


def down(settings: Settings) -> list[str]:
    """Stop all processes of this SLUICE_HOME, also those of other shells; returns the stopped parts.

    That includes processes of a killed `sluice up` or `sluice demo`. One that does not end within
    `DOWN_TIMEOUT_SECONDS` is killed.
    """
    stopped = []
    with _lock(settings) as lock:
        if not _acquired(lock, 0):
            process = process_record.find(_record(settings))
            if process is not None:
                process.terminate()
            if not _acquired(lock, DOWN_TIMEOUT_SECONDS) and process is not None:
                process.kill()
                _acquired(lock, DOWN_TIMEOUT_SECONDS)
            stopped += ["Airflow", "PostgreSQL", "embedded AWS"]
        if (left := end_services(settings)) and not stopped:
            stopped.append(f"Airflow ({', '.join(left)})")
        _record(settings).unlink(missing_ok=True)
        if postgres.stop(settings):
            stopped.append("PostgreSQL")
        if server.stop(settings):
            stopped.append("embedded AWS")
    return list(dict.fromkeys(stopped))


def end_services(settings: Settings) -> list[str]:
    """End every recorded service, the API server last; returns the names of those that ran."""
    records = sessions.recorded(_record_folder(settings))
    first = [record for record in records if record.stem != "api-server"]
    last = [record for record in records if record not in first]
    return sessions.end(first, STOP_TIMEOUT_SECONDS) + sessions.end(last, STOP_TIMEOUT_SECONDS)


def require_free_port(port: int) -> None:
    """The port of the web UI can be used.

    Raises:
        StackFailed: it cannot.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackFailed(
                f"port {port} of the web UI cannot be used ({error.strerror}); stop its process, or set SLUICE_WEB_PORT"
            ) from None


def _start_embedded_aws(settings: Settings) -> None:
    server.start(settings)
    deploy(settings)


def _record(settings: Settings) -> Path:
    return settings.home / "up.json"


def _record_folder(settings: Settings) -> Path:
    return settings.home / "sessions"


@contextmanager
def _lock(settings: Settings) -> Iterator[int]:
    """A file whose lock goes with its process, however that ends."""
    settings.home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(settings.home / "up.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquired(lock: int, timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def _wait_until_healthy(stack: Stack, stopping: threading.Event) -> None:
    url = web_url(stack.settings)
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    waiting_for = "the web UI"
    while time.monotonic() < deadline:
        stack.require_running()
        if stopping.is_set():
            raise StackFailed("stopped before it was up")
        with contextlib.suppress(URLError, OSError, json.JSONDecodeError):
            # Requested first, as it also triggers imports that the first task would wait for.
            with urlopen(f"{url}/execution/health", timeout=5):
                pass
            with urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:
                states = json.load(answer)
            names = {"dag_processor": "dag-processor"}
            waiting_for = ", ".join(
                name
                for name, state in states.items()
                if state and names.get(name, name) in stack.services and state["status"] != "healthy"
            )
            if not waiting_for:
                return
        time.sleep(0.2)
    raise StackFailed(f"not healthy after {READY_TIMEOUT_SECONDS} s: {waiting_for}; see {stack.settings.home / 'logs'}")
