"""Only this machine's own names pass the guard, however a name is spelled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_dev.emulator.asgi import Message, Receive, Scope, Send
from sluice_dev.emulator.guard import Configuration, guard, refusal

ALLOWED = {"127.0.0.1:4566", "localhost:4566", "[::1]:4566"}


def refused(**headers: str) -> str | None:
    return refusal(
        {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}, ALLOWED
    )


@given(st.text(st.characters(codec="ascii", min_codepoint=33), max_size=30))
def test_no_other_name_passes(host: str) -> None:
    passes = refused(host=host) is None
    assert passes == (host.lower() in ALLOWED or (host.lower().endswith(".localhost:4566")))


@pytest.mark.parametrize("host", ["127.0.0.1:4566", "LocalHost:4566", "[::1]:4566", "bucket.s3.localhost:4566"])
def test_the_names_of_this_machine_pass(host: str) -> None:
    assert refused(host=host) is None


def test_a_page_of_this_machine_is_a_page() -> None:
    assert refused(host="localhost:4566", origin="http://localhost:4566")
    assert refused(host="localhost:4566", sec_fetch_site="cross-site")


def test_a_link_that_someone_clicks_on_a_page_of_this_machine_passes() -> None:
    assert refused(host="localhost:4566", sec_fetch_site="same-site") is None
    assert refused(host="localhost:4566", sec_fetch_site="none") is None


def test_a_configuration_survives_the_command_line() -> None:
    configuration = Configuration(Path("/a b/c"), 1, "0.0.0.0", frozenset({"aws:4566", "b:1"}), faults=True)
    assert Configuration.from_json(configuration.to_json()) == configuration


class Emulator:
    """Stands for the emulator: remembers what it was asked, and lets every origin read its answer."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        headers = [(b"Access-Control-Allow-Origin", b"*"), (b"x-amz-request-id", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"answer"})


class Guarded:
    """An emulator behind the guard, its responses, and the number of save requests."""

    def __init__(self, *, faults: bool = False) -> None:
        self.emulator = Emulator()
        self.saves = 0
        self.app = guard(self.emulator, ALLOWED, {"pid": 7, "faults": faults}, save=self.save)

    def save(self) -> None:
        self.saves += 1

    def ask(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=cast("Any", self.app))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4566") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(send())


def test_what_is_refused_never_reaches_the_emulator() -> None:
    guarded = Guarded()
    for path in ("/", "/_ministack/reset", "/_sluice/server", "/_sluice/save"):
        answer = guarded.ask(path, "POST", Origin="https://evil.example")
        assert (answer.status_code, answer.text) == (
            403,
            "requests from web pages are refused (Origin: https://evil.example)\n",
        )
    assert guarded.emulator.paths == []
    assert guarded.saves == 0


def test_what_passes_loses_the_headers_that_let_a_page_read_it() -> None:
    guarded = Guarded()
    answer = guarded.ask("/bucket/key")
    assert (answer.text, dict(answer.headers)) == ("answer", {"x-amz-request-id": "1"})
    assert guarded.emulator.paths == ["/bucket/key"]


def test_only_a_post_saves() -> None:
    guarded = Guarded()
    assert guarded.ask("/_sluice/save").status_code == 404
    assert guarded.saves == 0
    assert guarded.ask("/_sluice/save", "POST").status_code == 200
    assert guarded.saves == 1


def test_the_paths_of_the_guard_are_never_taken_for_a_bucket() -> None:
    guarded = Guarded()
    assert guarded.ask("/_sluice/server").json() == {"pid": 7, "faults": False}
    assert guarded.ask("/_sluice/faults", "PUT").status_code == 404
    assert guarded.emulator.paths == []


def test_a_websocket_of_a_page_is_closed() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"127.0.0.1:4566"), (b"origin", b"http://x")]}
    app: Any = guard(Emulator(), ALLOWED, {"faults": False}, save=lambda: None)
    asyncio.run(app(scope, receive, send))
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]
