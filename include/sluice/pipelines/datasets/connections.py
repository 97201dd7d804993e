"""Connections of a download: to public addresses only, with one total time limit."""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator

import httpcore
import httpx

from sluice.errors import SluiceError, TerminalError

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class UrlUnreachable(SluiceError):
    """No complete response; a retry may succeed."""


class UrlRefused(TerminalError):
    """The response cannot be used; a retry would not help."""


class TimeLimit:
    """Time limit of one download.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time has passed, but for the precision of timers."""
        return time.monotonic() > self._end - 0.01

    def wait_seconds(self, timeout: float | None) -> float:
        """Timeout of the next step: `timeout` seconds, at most the remaining time.

        Raises:
            httpcore.TimeoutException: no time is left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.TimeoutException("no time is left")
        return left if timeout is None else min(timeout, left)


class LimitedTransport(httpx.BaseTransport):
    """Transport of httpx over these connections; raises the errors of httpcore.

    Args:
        limit: for all requests together.
        allow_private: also connect to addresses that are not public.
        tls: TLS context with the trusted authorities.
    """

    def __init__(self, limit: TimeLimit, tls: ssl.SSLContext, *, allow_private: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, network_backend=_LimitedBackend(limit, allow_private=allow_private)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the body of the answer is read from its stream."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
        )
        response = self._pool.handle_request(
            httpcore.Request(request.method, url, headers=request.headers.raw, extensions=request.extensions)
        )
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _LimitedBackend(httpcore.NetworkBackend):
    """Resolves names itself, so that it connects to the address that was checked.

    httpcore uses the name for SNI and for the check of the certificate.
    """

    def __init__(self, limit: TimeLimit, *, allow_private: bool) -> None:
        self._limit = limit
        self._allow_private = allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve(host, port, self._limit.wait_seconds(timeout))
        if not self._allow_private:
            check_public(host, addresses)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            wait = self._limit.wait_seconds(timeout)
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _LimitedStream(stream, self._limit)
        raise failure


class _LimitedStream(httpcore.NetworkStream):
    """A connection with the time limit on each step; a step of TLS is a whole record."""

    def __init__(self, stream: httpcore.NetworkStream, limit: TimeLimit) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._limit.wait_seconds(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limit.wait_seconds(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._limit.wait_seconds(timeout))
        return _LimitedStream(stream, self._limit)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def resolve(host: str, port: int, timeout_seconds: float) -> list[str]:
    """All distinct addresses of a host, in order of preference.

    Raises:
        httpcore.ConnectTimeout: the resolver took longer than `timeout_seconds`.
        httpcore.ConnectError: the name cannot be resolved.
    """
    answers: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    # The resolver of the system has no timeout of its own.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_seconds)
    except queue.Empty:
        raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time") from None
    if isinstance(answer, Exception):
        raise httpcore.ConnectError(f"the name {host} cannot be resolved: {answer}") from answer
    return answer


def check_public(host: str, addresses: list[str]) -> None:
    """Refuse a host if one of its addresses is not public.

    Raises:
        UrlRefused: names the host and the address.
    """
    for address in addresses:
        if not is_public(address):
            raise UrlRefused(
                f"the host {host} has the address {address}, which is not public: give a URL of a public server, or"
                " allow private, loopback and link-local addresses with SLUICE_DATASETS_URL_ALLOW_PRIVATE=true"
            )


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet; for an IPv6 address with an embedded IPv4 address, the
    latter decides."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is None:
            return ip in GLOBAL_UNICAST and ip.is_global
        ip = inner
    return ip.is_global and not ip.is_multicast
