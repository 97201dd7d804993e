"""Fetch a CSV from an https URL to a file: bounded in size and time, never over plain http."""

from __future__ import annotations

import hashlib
import ssl
import zlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import httpcore
import httpx

from sluice.pipelines.datasets.connections import LimitedTransport, TimeLimit, UrlRefused, UrlUnreachable
from sluice.pipelines.datasets.formats import START_BYTES, other_format
from sluice.pipelines.datasets.storage import Version

REDIRECTS_MAX = 5

STALL_SECONDS = 30.0
"""Timeout of a read without data."""

ETAG_MAX_LENGTH = 200

DECODED_CHUNK_BYTES = 1024 * 1024


def fetch_url(
    url: str,
    path: Path,
    *,
    known: str = "",
    timeout_seconds: float,
    max_bytes: int,
    allow_private: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Version | None:
    """Fetch a URL unless it is unchanged.

    Args:
        url: https; a redirect to anything else is refused.
        path: file to write, decoded if the response is encoded with gzip.
        known: `etag` of the published version; empty to fetch unconditionally.
        timeout_seconds: for all of it, from resolving the name to the last byte.
        max_bytes: maximum size after decoding.
        allow_private: also connect to addresses that are not public.
        tls: TLS context; None for the default authorities, or those of `SSL_CERT_FILE`.

    Returns:
        The version: its ETag, else its Last-Modified, else a digest of its bytes. None if it is `known`.

    Raises:
        UrlUnreachable: no connection, a 429 or 5xx, an incomplete response, or a timeout.
        UrlRefused: any other status, too large, compressed in another way than gzip, another format such as HTML, a
            redirect to plain http, or an address that is not public.
    """
    headers = {
        "User-Agent": f"sluice/{version('sluice')}",
        "Accept": "text/csv, */*;q=0.5",
        "Accept-Encoding": "gzip",
        **_conditions(known),
    }
    shown = url.split("?")[0]
    limit = TimeLimit(timeout_seconds)
    transport = LimitedTransport(limit, tls or httpx.create_ssl_context(), allow_private=allow_private)
    try:
        # Without proxies of the environment, which would resolve names themselves, and without its passwords.
        with httpx.Client(transport=transport, headers=headers, timeout=STALL_SECONDS, trust_env=False) as http:
            for _ in range(REDIRECTS_MAX + 1):
                with http.stream("GET", url) as response:
                    if response.next_request is None:
                        return _receive(response, shown, path, known, max_bytes)
                    if response.next_request.url.scheme != "https":
                        raise UrlRefused(f"{shown} redirects to {response.next_request.url.scheme}, which is not https")
                    url = str(response.next_request.url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UrlRefused(f"{shown} is not a valid URL, or redirects to one that is not: {error}") from error
    except httpcore.TimeoutException as error:
        size = path.stat().st_size if path.exists() else 0
        if limit.is_over:
            raise UrlUnreachable(
                f"{shown} took longer than SLUICE_DATASETS_URL_TIMEOUT_SECONDS={timeout_seconds:g}:"
                f" only {size} bytes came"
            ) from error
        raise UrlUnreachable(f"{shown} sent nothing for {STALL_SECONDS:g} seconds after {size} bytes") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.RequestError) as error:
        what = f"{type(error).__name__} {error}".strip()
        raise UrlUnreachable(f"{shown} cannot be read: {what}; check the address and the network") from error
    raise UrlRefused(f"{shown} redirects more than {REDIRECTS_MAX} times")


def _conditions(known: str) -> dict[str, str]:
    """Headers of a conditional request for another version (RFC 9110, section 13)."""
    kind, _, value = known.partition(":")
    # Only an ETag or Last-Modified of the server can be sent back.
    if kind == "etag":
        return {"If-None-Match": value}
    return {}


def _receive(response: httpx.Response, shown: str, path: Path, known: str, max_bytes: int) -> Version | None:
    status = response.status_code
    if status == 304 and known:
        return None
    if status == 429 or status >= 500:
        raise UrlUnreachable(f"{shown} answered {status}: try again later")
    if status != 200:
        raise UrlRefused(f"{shown} answered {status}, not 200: is the address right, and accessible from this machine?")
    chunks = _decoded(response, shown)
    declared = response.headers.get("content-length", "")
    too_large = f"{shown} is larger than SLUICE_DATASETS_URL_MAX_BYTES={max_bytes}"
    if declared.isdecimal() and int(declared) > max_bytes:
        raise UrlRefused(f"{too_large}: {declared} bytes")
    found = _named_version(response.headers)
    if found and found.etag == known:
        return None
    digest, size, start = hashlib.sha256(), 0, b""
    with path.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise UrlRefused(too_large)
            if len(start) < START_BYTES:
                start += chunk[: START_BYTES - len(start)]
                if name := other_format(start):
                    raise UrlRefused(f"{shown} is {name} and not CSV: give the address of the CSV file itself")
            file.write(chunk)
            digest.update(chunk)
    found = found or Version(f"sha256:{digest.hexdigest()}")
    return None if found.etag == known else found


def _decoded(response: httpx.Response, shown: str) -> Iterator[bytes]:
    """The body without its `Content-Encoding`, in chunks that are not larger than 1 MiB.

    Raises:
        UrlRefused: at once, if it is encoded in another way than gzip; while it is read, if it is not gzip.
        UrlUnreachable: while it is read, if its gzip data are truncated.
    """
    named = response.headers.get("content-encoding", "").lower().split(",")
    encodings = [name for each in named if (name := each.strip()) not in ("", "identity")]
    if not encodings:
        return response.iter_raw()
    if encodings not in (["gzip"], ["x-gzip"]):
        raise UrlRefused(
            f"{shown} comes with Content-Encoding {', '.join(encodings)[:100]!a}, and only gzip is supported: give an"
            " address where the file is not compressed"
        )
    return _gunzip(response.iter_raw(), shown)


def _gunzip(chunks: Iterable[bytes], shown: str) -> Iterator[bytes]:
    """Decode all members of a gzip body; zeros between and after them are padding."""
    member = None
    for chunk in chunks:
        rest = chunk
        while rest:
            if member is None:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member = zlib.decompressobj(31)
            try:
                yield member.decompress(rest, DECODED_CHUNK_BYTES)
            except zlib.error as error:
                raise UrlRefused(f"{shown} comes with Content-Encoding gzip, but is not valid gzip: {error}") from error
            rest = member.unconsumed_tail
            if member.eof:
                rest, member = member.unused_data, None
    if member is not None:
        raise UrlUnreachable(f"{shown} cannot be read: its gzip body broke off; check the address and the network")


def _named_version(headers: httpx.Headers) -> Version | None:
    """The version from the headers of the response; a weak ETag is sufficient (RFC 9110, section 8.8)."""
    for kind, name in (("etag", "etag"), ("last-modified", "last-modified")):
        value = headers.get(name, "").strip()
        if value:
            text = f"{kind}:{value}"
            # In the encoding of S3 metadata.
            if not (text.isascii() and text.isprintable() and len(text) <= ETAG_MAX_LENGTH):
                text = f"{kind}-sha256:{hashlib.sha256(text.encode()).hexdigest()}"
            return Version(text)
    return None
