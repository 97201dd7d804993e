"""The whole stack as `make up` runs it, and a real Chromium that looks at it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import boto3
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from embedded_aws import free_port
from sluice.aws.emulator import EMBEDDED_SECRET_KEY

# Five seconds are the default, which a machine that also runs other tests may need for one page.
expect.set_options(timeout=30_000)

READY = re.compile(r"Airflow is up: (?P<url>\S+)\s+user (?P<user>\S+)\s+password (?P<password>\S+)")


@dataclass(frozen=True)
class RunningStack:
    """A `sluice up`, and how to speak to it.

    Attributes:
        url: of the web UI; the user and password are those that it printed.
        lines: what it prints, growing.
    """

    url: str
    user: str
    password: str
    home: Path
    environment: dict[str, str]
    process: subprocess.Popen[str]
    lines: list[str]

    def sluice(self, *arguments: str) -> str:
        """Output of a `sluice` command against this stack."""
        done = subprocess.run(
            [sys.executable, "-m", "sluice", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_healthy(self, since: datetime) -> bool:
        """Whether all services of Airflow work, and each has done so after a time."""
        try:
            with urlopen(f"{self.url}/api/v2/monitor/health", timeout=5) as answer:
                states = [state for state in json.load(answer).values() if state]
        except (OSError, http.client.HTTPException):
            return False
        beats = [value for state in states for name, value in state.items() if name.startswith("latest_")]
        return (
            len(beats) == 3
            and all(state["status"] == "healthy" for state in states)
            and all(beat and datetime.fromisoformat(beat) > since for beat in beats)
        )

    def part(self, name: str) -> psutil.Process:
        """The first process of a part, by the name that `sluice up` has for it."""
        files = {"PostgreSQL": "postgres/postmaster.pid", "embedded AWS": "aws/server.json"}
        text = (self.home / files.get(name, f"sessions/{name}.session")).read_text()
        return psutil.Process(json.loads(text)["pid"] if text.startswith("{") else int(text.split()[0]))

    def kill(self, name: str) -> None:
        """Kill a part, and wait until it is said to run again."""
        before = len(self.lines)
        self.part(name).kill()
        eventually(lambda: any(line.startswith(f"{name} runs again") for line in self.lines[before:]))

    def client(self, service: str) -> Any:
        """A boto3 client of its embedded AWS."""
        connect: Any = boto3.client
        return connect(
            service,
            endpoint_url=f"http://127.0.0.1:{self.environment['SLUICE_AWS_PORT']}",
            region_name="us-east-1",
            aws_access_key_id="000000000000",
            aws_secret_access_key=EMBEDDED_SECRET_KEY,
        )

    def processes(self) -> list[psutil.Process]:
        """Every process that runs with the home of this stack, with any parent."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLUICE_HOME") == str(self.home) or str(self.home) in process.cmdline():
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def own_environment(home: Path) -> dict[str, str]:
    """The environment of a stack of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "AIRFLOW"))}
    ports = {"SLUICE_AWS_PORT": str(free_port()), "SLUICE_WEB_PORT": str(free_port())}
    return kept | {"SLUICE_HOME": str(home)} | ports


def environment_of(home: Path) -> dict[str, str]:
    """The environment of the stack that the tests in a browser share."""
    return own_environment(home) | {
        "SLUICE_DOCKERHUB_REPOSITORIES": "localstack/localstack,library/redis,missing/gone",
        # Pulled by hand in these tests.
        "SLUICE_DOCKERHUB_PULL_SCHEDULE": "0 0 1 1 *",
        # A backlog needs few runs, so that the tests wait for what goes wrong alone.
        "SLUICE_ACCOMMODATIONS_MAX_MESSAGES": "1000",
        "SLUICE_DATASETS_MAX_MESSAGES": "1000",
        # How long after its last sign of life a killed scheduler is taken for one; the default is 30 s.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    }


def start_stack(environment: dict[str, str]) -> RunningStack:
    """`sluice up`, until it says that it is up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sluice", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if ready := READY.search(line):
            threading.Thread(target=_read_on, args=(process.stdout, lines), daemon=True).start()
            home = Path(environment["SLUICE_HOME"])
            return RunningStack(**ready.groupdict(), home=home, environment=environment, process=process, lines=lines)
    raise AssertionError(f"sluice up ended with {process.wait()}:\n{''.join(lines)}")


def _read_on(output: IO[str], lines: list[str]) -> None:
    for line in output:
        lines.append(line)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One for all tests in a browser, of which the last stops it. The path of its home needs quotes in many places."""
    running = start_stack(environment_of(tmp_path_factory.mktemp("stack") / "a home, 'quoted'"))
    yield running
    # Where only some of the tests are run.
    running.process.terminate()
    assert running.process.wait(120) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module: Playwright keeps an event loop running, and a second one is not allowed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, stack: RunningStack, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that is logged in; what it shows when a test fails is kept as a picture."""
    context = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    opened.goto("/")
    opened.get_by_label("Username").fill(stack.user)
    opened.get_by_label("Password").fill(stack.password)
    opened.get_by_role("button", name="Sign in").click()
    opened.get_by_role("link", name="Dags").first.wait_for()
    yield opened
    pictures = stack.home / "pictures"
    pictures.mkdir(exist_ok=True)
    opened.screenshot(path=pictures / f"{request.node.name}.png")
    context.close()


def eventually(check: Callable[[], bool], timeout_seconds: float = 90) -> None:
    """Ask until it holds."""
    deadline = time.monotonic() + timeout_seconds
    while not check():
        assert time.monotonic() < deadline, f"not so after {timeout_seconds} s"
        time.sleep(0.2)
