from __future__ import annotations

import socket
import threading
from typing import Any

import httpcore
import pytest

from sluice.pipelines.datasets.connections import UrlRefused, check_public, is_public, resolve


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:db8::1",
        "fe80::1%1",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
    ],
)
def test_an_address_of_a_private_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_one_private_address_among_public_ones_is_refused() -> None:
    with pytest.raises(UrlRefused, match=r"host h has the address 10\.0\.0\.1, which is not public"):
        check_public("h", ["8.8.8.8", "10.0.0.1"])


def test_a_resolver_that_does_not_answer_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def never(*_arguments: Any, **_options: Any) -> list[Any]:
        ended.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    with pytest.raises(httpcore.ConnectTimeout, match="name slow was not resolved in time"):
        resolve("slow", 443, 0.01)
    ended.set()


@pytest.mark.parametrize("host", ["name.invalid", "a" * 64 + ".invalid"])
def test_a_name_that_cannot_be_resolved_is_an_error_of_the_connection(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str, *_arguments: Any, **_options: Any) -> list[Any]:
        name.encode("idna")
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(httpcore.ConnectError, match="cannot be resolved"):
        resolve(host, 443, 10)
