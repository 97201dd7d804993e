"""Ranges of a version of an object: the emulator answers such a request with the whole object.

boto3 downloads a large object in ranges, so each range would write the whole object over the others.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from sluice_dev.emulator.asgi import App, Message, Receive, Scope, Send, header

RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def bounds(asked: str, size_bytes: int) -> tuple[int, int] | None:
    """First and last byte of a Range header (RFC 9110, 14.1.2); None where it is not one range of the object."""
    found = RANGE.fullmatch(asked.strip())
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(size_bytes - int(last), 0), size_bytes - 1
    else:
        start, end = int(first), min(int(last), size_bytes - 1) if last else size_bytes - 1
    return (start, end) if start <= end else None


def answer_ranges(app: App) -> App:
    """The app, which answers a GET of a range of a version with that range."""

    async def ranged(scope: Scope, receive: Receive, send: Send) -> None:
        asked = header(scope, "range") if scope["type"] == "http" and scope["method"] == "GET" else ""
        if not asked or "versionId" not in parse_qs(scope.get("query_string", b"").decode("latin-1")):
            await app(scope, receive, send)
            return
        started: list[Message] = []
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await _send_range(send, started[0], b"".join(parts), asked)

        await app(scope, receive, keep)

    return ranged


async def _send_range(send: Send, start: Message, body: bytes, asked: str) -> None:
    found = bounds(asked, len(body)) if start["status"] == 200 else None
    if found:
        first, last = found
        content_range = f"bytes {first}-{last}/{len(body)}".encode()
        body = body[first : last + 1]
        others = [pair for pair in start["headers"] if pair[0].lower() not in (b"content-length", b"content-range")]
        headers = [*others, (b"content-length", str(len(body)).encode()), (b"content-range", content_range)]
        start = {**start, "status": 206, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
