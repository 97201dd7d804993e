"""A stand-in for Docker Hub: a real HTTP server on 127.0.0.1 that replays made-up histories, and misbehaves on request.

`sluice stand-in` runs it; `with DockerHubStandIn() as hub:` runs it in a thread.

Every repository has a history, made from the seed and its name; each good answer moves it one step on, until the last.
Some are other: namespace `missing` answers 404, `private` 401, and in `faulty` the name says the fault
(`faulty/server-error`, or `faulty/server-error-2` for a second one), see `Fault`.
"""

from __future__ import annotations

import json
import random
import re
import socketserver
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sluice.errors import SluiceError

HISTORY_STEPS = 12
FIRST_PUSH = datetime(2025, 10, 2, tzinfo=UTC)
"""A push follows at most 30 days after another: the last one of twelve is before October 2026."""

KNOWN = {
    "localstack/localstack": (210, 260_000_000, "A fully functional local AWS cloud stack"),
    "library/postgres": (13_900, 10_400_000_000, "The PostgreSQL object-relational database system"),
    "library/redis": (13_100, 11_200_000_000, "Redis is a data platform for caching and vector search"),
    "apache/airflow": (580, 1_400_000_000, "Apache Airflow"),
    "grafana/grafana": (3_200, 5_100_000_000, "The official Grafana docker container"),
}
"""Stars, pulls and description that a history starts from. The names are real, the counts invented."""

_PATH = re.compile(r"/v2/repositories/([^/?]+)/([^/?]+)/")


class Fault(StrEnum):
    """Ways in which Docker Hub, or what stands between, can misbehave."""

    RATE_LIMITED = "rate-limited"
    RATE_LIMITED_DATE = "rate-limited-date"
    RATE_LIMITED_EPOCH = "rate-limited-epoch"
    RATE_LIMITED_LONG = "rate-limited-long"
    RATE_LIMITED_BARE = "rate-limited-bare"
    SERVER_ERROR = "server-error"
    SLOW = "slow"
    TRUNCATED = "truncated"
    DROPPED = "dropped"
    TOO_LARGE = "too-large"
    REDIRECT = "redirect"
    HTML = "html"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    NEGATIVE_COUNT = "negative-count"
    WRONG_REPOSITORY = "wrong-repository"
    NO_FRACTION = "no-fraction"
    NULL_LAST_UPDATED = "null-last-updated"
    FUTURE = "future"


SHARED_FAULTS = (Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.SLOW, Fault.TRUNCATED, Fault.HTML, Fault.WRONG_TYPE)
"""The mix that `error_share` draws from."""

_OTHER_FIELDS: dict[Fault, dict[str, Any]] = {
    Fault.WRONG_TYPE: {"star_count": "many"},
    Fault.NEGATIVE_COUNT: {"pull_count": -1},
    Fault.WRONG_REPOSITORY: {"name": "another"},
    Fault.NULL_LAST_UPDATED: {"last_updated": None},
    Fault.FUTURE: {"last_updated": "2999-01-01T00:00:00Z"},
}


def history_of(repository: str, seed: int = 0) -> list[dict[str, Any]]:
    """The answers that `namespace/name` gives one after the other: pushes over months, and pulls between two pushes.

    The same seed and name always give the same answers.
    """
    draw = random.Random(f"{seed} {repository}")
    namespace, _, name = repository.partition("/")
    stars, pulls, description = KNOWN.get(repository, (draw.randrange(500), draw.randrange(10**8), f"{name} in a box"))
    registered = FIRST_PUSH - timedelta(days=draw.randrange(400, 3000), microseconds=draw.randrange(10**9))
    pushed = FIRST_PUSH + timedelta(seconds=draw.randrange(86400), microseconds=draw.randrange(1, 10**6))
    answers = []
    for step in range(HISTORY_STEPS):
        if step and draw.random() < 0.75:
            pushed += timedelta(days=draw.randrange(5, 30), seconds=draw.randrange(86400))
        answers.append(
            {
                "user": namespace,
                "name": name,
                "namespace": namespace,
                "repository_type": "image",
                "status": 1,
                "status_description": "active",
                "description": description,
                "is_private": False,
                "is_automated": False,
                "star_count": stars,
                "pull_count": pulls,
                "last_updated": _hub_time(pushed),
                "last_modified": _hub_time(pushed + timedelta(seconds=1)),
                "date_registered": _hub_time(registered),
                "collaborator_count": 0,
                "affiliation": None,
                "hub_user": namespace,
                "has_starred": False,
                "full_description": f"# {name}\n\n{description}\n",
                "permissions": {"read": True, "write": False, "admin": False},
                "media_types": ["application/vnd.oci.image.index.v1+json"],
                "content_types": ["image"],
                "categories": [],
                "immutable_tags_settings": {"enabled": False, "rules": [".*"]},
                "storage_size": 10**9 + draw.randrange(10**9),
                "source": None,
            }
        )
        stars += draw.randrange(4)
        pulls += draw.randrange(1, 2 + pulls // 100)
    return answers


def _hub_time(moment: datetime) -> str:
    """As Docker Hub writes it: fraction without its trailing zeros."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}".rstrip("0").rstrip(".") + "Z"


class StandInFailed(SluiceError):
    """The stand-in cannot be served; the message says what to do."""


class DockerHubStandIn:
    """The stand-in as a server in a thread of its own; safe to ask from many threads.

    Args:
        port: on 127.0.0.1; 0 takes a free one.
        error_share: share of requests (0 to 1) answered with one of `SHARED_FAULTS`.
        seed: of the histories, and of which requests go wrong: it depends on the repository and how often it was asked.
        slow_seconds: how long a slow answer takes.
        retry_after_seconds: `Retry-After` of a 429 (`rate-limited-long`: a thousand times that).

    Attributes:
        requests: number of requests for each `namespace/name`.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        error_share: float = 0.0,
        seed: int = 0,
        slow_seconds: float = 3.0,
        retry_after_seconds: int = 1,
    ) -> None:
        self.requests: Counter[str] = Counter()
        self.error_share = error_share
        self.seed = seed
        self.slow_seconds = slow_seconds
        self.retry_after_seconds = retry_after_seconds
        self.closing = threading.Event()
        self._steps: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens, for `SLUICE_DOCKERHUB_URL`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, also the slow answers under way, and free the port."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> DockerHubStandIn:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def next_fault(self, repository: str) -> Fault | None:
        """Count one request for `namespace/name`, and say how it goes wrong, if it does."""
        with self._lock:
            self.requests[repository] += 1
            number = self.requests[repository]
        namespace, _, name = repository.partition("/")
        if namespace == "faulty":
            return max((fault for fault in Fault if name.startswith(fault)), key=len, default=None)
        draw = random.Random(f"{self.seed} {repository} {number}")
        return draw.choice(SHARED_FAULTS) if draw.random() < self.error_share else None

    def next_answer(self, repository: str) -> dict[str, Any]:
        """The next step in the history of `namespace/name`."""
        with self._lock:
            step = min(self._steps[repository], HISTORY_STEPS - 1)
            self._steps[repository] += 1
        return history_of(repository, self.seed)[step]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, hub: DockerHubStandIn) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer asks the DNS for its own name here, which may take long without a network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that has given up is none of ours
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body

    def do_GET(self) -> None:
        match = _PATH.fullmatch(self.path)
        if not match:
            self._send_json(404, {"message": "404: page not found"})
            return
        hub, namespace, repository = self.server.hub, match[1], f"{match[1]}/{match[2]}"
        fault = hub.next_fault(repository)
        if namespace == "missing":
            self._send_json(404, {"message": "object not found", "errinfo": {}})
        elif namespace == "private":
            self._send_json(401, {"message": "access denied", "errinfo": {}})
        elif fault is None:
            self._send_json(200, hub.next_answer(repository))
        else:
            self._misbehave(fault, repository)

    def _misbehave(self, fault: Fault, repository: str) -> None:
        hub = self.server.hub
        answer = history_of(repository, hub.seed)[0]
        whole = json.dumps(answer).encode()
        match fault:
            case Fault.RATE_LIMITED_BARE:
                self._send(429, b"Too Many Requests\n", "text/plain")
            case Fault.RATE_LIMITED | Fault.RATE_LIMITED_DATE | Fault.RATE_LIMITED_EPOCH | Fault.RATE_LIMITED_LONG:
                self._send(429, b"Too Many Requests\n", "text/plain", **{"Retry-After": self._retry_after(fault)})
            case Fault.SERVER_ERROR:
                self._send_json(500, {"message": "internal error", "errinfo": {}})
            case Fault.SLOW:
                hub.closing.wait(hub.slow_seconds)
                self._send(200, whole)
            case Fault.TRUNCATED:
                self._send(200, whole[: len(whole) // 2], **{"Content-Length": str(len(whole))})
                self.close_connection = True
            case Fault.DROPPED:
                self.close_connection = True
            case Fault.TOO_LARGE:
                self._send_json(200, {**answer, "full_description": "x" * 2 * 1024 * 1024})
            case Fault.REDIRECT:
                self._send(302, b"", Location="http://elsewhere.invalid/")
            case Fault.HTML:
                self._send(200, b"<!doctype html><title>Docker Hub is down for maintenance</title>", "text/html")
            case Fault.MISSING_FIELD:
                self._send_json(200, {name: value for name, value in answer.items() if name != "pull_count"})
            case Fault.NO_FRACTION:
                self._send_json(200, {**answer, "last_updated": answer["last_updated"].partition(".")[0] + "Z"})
            case _:
                self._send_json(200, answer | _OTHER_FIELDS[fault])

    def _retry_after(self, fault: Fault) -> str:
        seconds = self.server.hub.retry_after_seconds
        if fault is Fault.RATE_LIMITED_DATE:
            return formatdate(time.time() + seconds, usegmt=True)
        if fault is Fault.RATE_LIMITED_EPOCH:
            return str(int(time.time()) + seconds)
        return str(seconds * 1000 if fault is Fault.RATE_LIMITED_LONG else seconds)

    def _send_json(self, status_code: int, document: dict[str, Any]) -> None:
        self._send(status_code, json.dumps(document).encode())

    def _send(self, status_code: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.send_response(status_code)
        for name, value in ({"Content-Type": content_type, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a stand-in with 500 repositories would say it 500 times."""


def serve(port: int, error_share: float) -> None:
    """Run the stand-in on 127.0.0.1 in the foreground, until it is interrupted.

    Raises:
        StandInFailed: the port cannot be used.
    """
    try:
        hub = DockerHubStandIn(port, error_share=error_share)
    except OSError as error:
        raise StandInFailed(
            f"port {port} of the Docker Hub stand-in cannot be used ({error.strerror}); give another one with --port"
        ) from None
    with hub:
        print(f"Docker Hub stand-in on {hub.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")
