"""The process of the embedded AWS: the emulator behind a guard against web pages.

The emulator accepts unsigned requests from any origin, and some of its services run code. Any page in a browser of this
machine could use it; the guard refuses requests with headers of browsers, and host names of other machines.

Started by `sluice_dev.emulator.server` with an environment made for it; `python -m sluice_dev.emulator.guard` alone is
not meant for people.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.aws.emulator import SAVE_PATH
from sluice_dev import process_record
from sluice_dev.emulator.asgi import App, Message, Receive, Scope, Send, header, respond
from sluice_dev.emulator.ranges import answer_ranges

if TYPE_CHECKING:
    from hypercorn.config import Config

IDENTITY_PATH = "/_sluice/server"
"""Answers who serves this port: pid, version, and whether faults may be injected."""
GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Configuration:
    """What the process needs to know. `record` is the file that says which process serves, hosts are `name:port`."""

    record: Path
    port: int
    bind: str = "127.0.0.1"
    allowed_hosts: frozenset[str] = frozenset()
    faults: bool = False

    def to_json(self) -> str:
        """The configuration as one argument of a command line."""
        return json.dumps(asdict(self) | {"record": str(self.record), "allowed_hosts": sorted(self.allowed_hosts)})

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """The reverse of `to_json`."""
        values = json.loads(text)
        return cls(**values | {"record": Path(values["record"]), "allowed_hosts": frozenset(values["allowed_hosts"])})


def refusal(scope: Scope, allowed_hosts: Set[str]) -> str | None:
    """The reason to refuse a request, in one line; None if it is accepted.

    `allowed_hosts` are `name:port`, in lower case. Names below `localhost` (a bucket's virtual host) pass as well:
    other machines cannot have such a name.
    """
    if origin := header(scope, "origin"):
        return f"requests from web pages are refused (Origin: {origin})"
    if header(scope, "sec-fetch-site") == "cross-site":
        # A page's images and forms send no Origin with a GET, and some APIs act on a GET.
        return "requests from web pages are refused (Sec-Fetch-Site: cross-site)"
    host = header(scope, "host").lower()
    name, _, port = host.rpartition(":")
    if host in allowed_hosts or (name.endswith(".localhost") and f"localhost:{port}" in allowed_hosts):
        return None
    return f"Host {host!r} is not this machine ({', '.join(sorted(allowed_hosts))})"


def guard(app: App, allowed_hosts: Set[str], identity: dict[str, Any], save: Callable[[], None]) -> App:
    """The app behind the guard. What passes loses the CORS headers that would let a web page read the answer."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        reason = refusal(scope, allowed_hosts)
        if reason is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": reason})
            else:
                await respond(send, 403, reason.encode() + b"\n", "text/plain; charset=utf-8")
            return
        path = scope["path"]
        if path == IDENTITY_PATH:
            await respond(send, 200, json.dumps(identity).encode())
            return
        if path == SAVE_PATH and scope["method"] == "POST":
            save()
            await respond(send, 200, b"{}")
            return
        if path.startswith("/_sluice/") and not identity["faults"]:
            # The emulator would treat it as a bucket of that name.
            await respond(send, 404, b"nothing is served here\n", "text/plain; charset=utf-8")
            return

        async def send_without_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    pair for pair in message.get("headers", []) if not pair[0].lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": kept}
            await send(message)

        await app(scope, receive, send_without_cors)

    return guarded


def serve(configuration: Configuration) -> None:
    """Serve the emulator until SIGTERM or SIGINT, and let it save its state before this returns.

    Raises:
        OSError: the port cannot be bound.
    """
    # Bound first: the process that has the port is the server of this home, and only that one is recorded.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((configuration.bind, configuration.port))
    # Written by the server, not by its parent, so that it is recorded even if the parent is killed.
    process_record.write(configuration.record)
    try:
        serve_on(listener, configuration)
    finally:
        configuration.record.unlink(missing_ok=True)


def serve_on(listener: socket.socket, configuration: Configuration) -> None:
    """Serve the guarded emulator on a bound socket."""
    from hypercorn.config import Config
    from ministack.app import _build_persistence_save_dict, app
    from ministack.core.persistence import save_all

    port = configuration.port
    own_hosts = {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}
    identity = {"pid": os.getpid(), "version": version("ministack"), "faults": configuration.faults}
    inner: App = answer_ranges(app)
    if configuration.faults:
        from sluice_dev.emulator.faults import Faults

        inner = Faults(inner)
    guarded = guard(
        inner,
        own_hosts | configuration.allowed_hosts,
        identity,
        save=lambda: save_all(_build_persistence_save_dict()),
    )

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    # Longer than a client's pool keeps an idle connection, or the client writes into one that is being closed.
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    asyncio.run(serve_until_signal(guarded, config))


async def serve_until_signal(app: App, config: Config) -> None:
    """Serve until SIGTERM or SIGINT; requests that are still under way a second later are cut off.

    A long poll takes up to 20 s, and from Python 3.12 on a server that closes waits for all of its connections.
    """
    from hypercorn.asyncio import serve as serve_app

    under_way: set[asyncio.Task[None]] = set()
    stopping = asyncio.Event()

    async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        if scope["type"] != "lifespan":
            under_way.add(task)
        try:
            await app(scope, receive, send)
        finally:
            under_way.discard(task)

    async def cut_off() -> None:
        await stopping.wait()
        await asyncio.sleep(GRACE_SECONDS)
        for task in under_way:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    cutting = asyncio.create_task(cut_off())
    await serve_app(tracked, config, shutdown_trigger=stopping.wait)  # type: ignore[arg-type]
    cutting.cancel()


def main() -> None:
    """Entry point of the process: the configuration is the JSON in its last argument."""
    # Hundreds of idle connections are normal, since each client process keeps its own pool.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    serve(Configuration.from_json(sys.argv[-1]))


if __name__ == "__main__":
    main()
