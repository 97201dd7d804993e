"""Fetch a CSV from an https URL to a file: bounded in size and time, never by way of plain http."""

from __future__ import annotations

import hashlib
import ssl
import time
from importlib.metadata import version
from pathlib import Path

import httpx

from sluice.datasets.storage import Version
from sluice.errors import SluiceError, TerminalError

REDIRECTS_MAX = 5

STALL_SECONDS = 30.0
"""Longest time without a byte."""

ETAG_MAX_LENGTH = 200


class UrlUnreachable(SluiceError):
    """No whole answer came; another try may get one."""


class UrlRefused(TerminalError):
    """The answer is not one that can be used; another try would not change that."""


def fetch_url(
    url: str,
    path: Path,
    *,
    known: str = "",
    timeout_seconds: float,
    max_bytes: int,
    tls: ssl.SSLContext | None = None,
) -> Version | None:
    """Fetch a URL unless it is unchanged.

    Args:
        url: https; a redirect to anything else is refused.
        path: file to write.
        known: `etag` of the version that is published; empty to fetch in any case.
        timeout_seconds: for all of it, from connecting to the last byte.
        max_bytes: a longer answer is given up.
        tls: who is trusted; the usual authorities, and those of `SSL_CERT_FILE`, when None.

    Returns:
        The version: its ETag, else its Last-Modified, else a digest of its bytes. None when it is that of `known`.

    Raises:
        UrlUnreachable: no connection, a 429 or 5xx, or it broke off or took too long.
        UrlRefused: any other status, too large, or a redirect to plain http.
    """
    headers = {
        "User-Agent": f"sluice/{version('sluice')}",
        "Accept": "text/csv, */*;q=0.5",
        "Accept-Encoding": "identity",  # a compressed body has no bound
        **_conditions(known),
    }
    shown = url.split("?")[0]
    deadline = time.monotonic() + timeout_seconds
    wait = min(STALL_SECONDS, timeout_seconds)
    try:
        with httpx.Client(headers=headers, timeout=wait, verify=tls or True, follow_redirects=False) as http:
            for _ in range(REDIRECTS_MAX + 1):
                with http.stream("GET", url) as response:
                    if response.next_request is None:
                        return _receive(response, shown, path, known, deadline, timeout_seconds, max_bytes)
                    if response.next_request.url.scheme != "https":
                        raise UrlRefused(f"{shown} redirects to {response.next_request.url.scheme}, which is not https")
                    url = str(response.next_request.url)
    except httpx.RequestError as error:
        what = f"{type(error).__name__} {error}".strip()
        raise UrlUnreachable(f"{shown} cannot be read: {what}; check the address and the network") from error
    raise UrlRefused(f"{shown} redirects more than {REDIRECTS_MAX} times")


def _conditions(known: str) -> dict[str, str]:
    """Headers that ask for an answer only when it is another version (RFC 9110, section 13)."""
    kind, _, value = known.partition(":")
    # Only what came as it is can be sent back.
    if kind == "etag":
        return {"If-None-Match": value}
    return {}


def _receive(
    response: httpx.Response,
    shown: str,
    path: Path,
    known: str,
    deadline: float,
    timeout_seconds: float,
    max_bytes: int,
) -> Version | None:
    status = response.status_code
    if status == 304 and known:
        return None
    if status == 429 or status >= 500:
        raise UrlUnreachable(f"{shown} answered {status}: try again later")
    if status != 200:
        raise UrlRefused(f"{shown} answered {status}, not 200: is the address right, and open to this machine?")
    declared = response.headers.get("content-length", "")
    too_large = f"{shown} is larger than SLUICE_DATASETS_URL_MAX_BYTES={max_bytes}"
    if declared.isdecimal() and int(declared) > max_bytes:
        raise UrlRefused(f"{too_large}: {declared} bytes")
    found = _named_version(response.headers)
    if found and found.etag == known:
        return None
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in response.iter_raw(1024 * 1024):
            size += len(chunk)
            if size > max_bytes:
                raise UrlRefused(too_large)
            if time.monotonic() > deadline:
                raise UrlUnreachable(
                    f"{shown} took longer than SLUICE_DATASETS_URL_TIMEOUT_SECONDS={timeout_seconds:g}:"
                    f" only {size} bytes came"
                )
            file.write(chunk)
            digest.update(chunk)
    found = found or Version(f"sha256:{digest.hexdigest()}")
    return None if found.etag == known else found


def _named_version(headers: httpx.Headers) -> Version | None:
    """The version as the server names it; a weak ETag will do (RFC 9110, section 8.8)."""
    for kind, name in (("etag", "etag"), ("last-modified", "last-modified")):
        value = headers.get(name, "").strip()
        if value:
            text = f"{kind}:{value}"
            # As metadata of S3 can hold it.
            if not (text.isascii() and text.isprintable() and len(text) <= ETAG_MAX_LENGTH):
                text = f"{kind}-sha256:{hashlib.sha256(text.encode()).hexdigest()}"
            return Version(text)
    return None
