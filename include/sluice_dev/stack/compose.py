"""Secrets and health checks for docker-compose.yaml; the checks do not start Airflow.

Only the standard library is imported: `make secrets` runs this before anything is installed.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import secrets
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from sluice.errors import SluiceError

REQUEST_TIMEOUT_SECONDS = 8.0

SECRETS: dict[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": lambda: secrets.token_hex(24),
    "SLUICE_WEB_PASSWORD": lambda: secrets.token_hex(8),
    "SLUICE_AIRFLOW_SECRET": lambda: secrets.token_hex(32),
    # 32 bytes in URL-safe base64, as the package `cryptography` takes a Fernet key.
    "SLUICE_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}
"""Variables of `.env` without which Compose does not start, and how each is made."""

ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=(?P<value>.*)")
NO_VALUE = re.compile(r"""\s*(?:''|"")?\s*(?:\s#.*)?""")


class NotHealthy(SluiceError):
    """A service of Airflow is unhealthy; the message names it and its response."""


def with_secrets(text: str) -> tuple[str, list[str]]:
    """The text of a `.env` with every secret, and the names of those that it lacked.

    A secret that has a value keeps it, as does every other line. An empty one is filled in place.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    where: dict[str, int] = {}
    values: dict[str, str] = {}
    for number, line in enumerate(lines):
        if found := ASSIGNMENT.match(line):
            # Of two lines with one name the last one counts.
            where[found["name"]] = number
            values[found["name"]] = found["value"]
    missing = [name for name in SECRETS if NO_VALUE.fullmatch(values.get(name, ""))]
    for name in missing:
        line = f"{name}={SECRETS[name]()}"
        if name in where:
            lines[where[name]] = line
        else:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines) if missing else text, missing


def write_env_file(path: Path) -> list[str]:
    """Fill the secrets that a `.env` lacks, and let only its owner read it; returns the names of those made.

    Concurrent calls are serialized, and a concurrent reader sees the old or the new file (atomic replace).
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after, made = with_secrets(before)
        if made:
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".env-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(after)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink()
                raise
        path.chmod(0o600)
    finally:
        os.close(folder)
    return made


def check_health(component: str, url: str) -> None:
    """Ask Airflow's web server whether a component has a fresh heartbeat.

    Args:
        component: `scheduler`, `triggerer` or `dag_processor`; `metadatabase` for the web server itself.
        url: the web server, such as `http://api-server:8080`.

    Raises:
        NotHealthy: it has none, or the web server does not answer.
    """
    try:
        if component == "metadatabase":
            # Asked first because it also imports what the first task would otherwise wait for.
            _get(f"{url}/execution/health")
        states = json.loads(_get(f"{url}/api/v2/monitor/health"))
    except OSError as error:
        raise NotHealthy(f"{url} does not answer: {error}") from None
    state = states.get(component)
    if not state or state["status"] != "healthy":
        raise NotHealthy(f"{component} of {url} is not healthy: {state}")


def _get(url: str) -> bytes:
    # No proxy of the environment, which would be used for the services of this network as well.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=REQUEST_TIMEOUT_SECONDS) as answer:
        body: bytes = answer.read()
        return body


def main(arguments: list[str]) -> None:
    """`secrets FILE` or `health COMPONENT URL`."""
    match arguments:
        case ["secrets", file]:
            made = write_env_file(Path(file))
            print(f"{file}: made {', '.join(made)}" if made else f"{file} has all secrets")
        case ["health", component, url]:
            try:
                check_health(component, url)
            except NotHealthy as error:
                sys.exit(str(error))
        case _:
            sys.exit("usage: python -m sluice_dev.stack.compose secrets FILE | health COMPONENT URL")


if __name__ == "__main__":
    main(sys.argv[1:])
