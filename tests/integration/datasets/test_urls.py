"""Datasets from https URLs: a real server with TLS, which this process trusts by SSL_CERT_FILE."""

from __future__ import annotations

import gzip
import socket
import ssl
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from datasets_world import OUTPUT, World, csv_of, row
from https_server import https_server, make_certificate, slow_server
from sluice.aws import s3
from sluice.pipelines.datasets import connections, publication, source, steps
from sluice.pipelines.datasets.connections import UrlRefused, UrlUnreachable
from sluice.pipelines.datasets.source import fetch_url
from sluice.settings import load_settings

FIRST = csv_of(row(memory=1))
SECOND = csv_of(row(memory=2))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("SLUICE_DATASETS_URL_ALLOW_PRIVATE", "true")
    load_settings.cache_clear()
    with https_server(certificate) as running:
        yield running


def fetch(server: HTTPServer, path: str, to: Path, **arguments: Any) -> Any:
    given: dict[str, Any] = {"timeout_seconds": 10, "max_bytes": 10_000, "allow_private": True} | arguments
    return fetch_url(server.url_for(path), to / "fetched", **given)


def serve(server: HTTPServer, *answers: tuple[bytes, dict[str, str]], path: str = "/x.csv") -> list[Request]:
    """Answer with each of these in turn, and with 304 where the client has it already; the requests as they came."""
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        body, headers = answers[min(len(asked), len(answers) - 1)]
        asked.append(request)
        if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
            return Response(status=304)
        return Response(body, headers=headers)

    server.expect_request(path).respond_with_handler(answer)
    return asked


def test_a_url_becomes_a_dataset_and_is_fetched_again_only_when_it_changed(world: World, server: HTTPServer) -> None:
    asked = serve(server, (FIRST, {"ETag": '"1"'}), (FIRST, {"ETag": '"1"'}), (SECOND, {"ETag": 'W/"2"'}))
    url = server.url_for("/x.csv?signature=secret")
    assert world.run("first", url) == {"records_in": 1, "published": 1, "duplicates": 0, "quarantined": 0}
    assert world.rows()[0]["memory_max"] == 1
    assert world.run("unchanged", url) == {"records_in": 1, "published": 0, "duplicates": 1, "quarantined": 0}
    assert asked[1].headers["If-None-Match"] == '"1"'
    assert world.run("changed", url)["published"] == 1
    assert world.rows()[0]["memory_max"] == 2
    everything = [s3.read_object(world.settings.lake_bucket, key).body for key in world.keys("")]
    assert not [body for body in everything if b"secret" in body]


def test_a_forced_url_is_fetched_in_any_case(world: World, server: HTTPServer) -> None:
    asked = serve(server, (FIRST, {"ETag": '"1"'}))
    url = server.url_for("/x.csv")
    world.run("first", url)
    assert world.run("again", url, force=True)["published"] == 1
    assert "If-None-Match" not in asked[1].headers


@pytest.mark.parametrize(
    "headers", [{"Last-Modified": "Sat, 21 Nov 2026 12:00:00 GMT"}, {}, {"ETag": '"' + "é" * 300 + '"'}]
)
def test_without_an_etag_an_unchanged_url_is_identified_by_date_or_content(
    world: World, server: HTTPServer, headers: dict[str, str]
) -> None:
    serve(server, (FIRST, headers))
    url = server.url_for("/x.csv")
    assert world.run("first", url)["published"] == 1
    assert world.run("again", url)["duplicates"] == 1


def test_two_urls_and_a_key_of_one_name_do_not_overwrite_each_other(world: World, server: HTTPServer) -> None:
    serve(server, (FIRST, {}))
    serve(server, (SECOND, {}), path="/other/x.csv")
    world.run("first", server.url_for("/x.csv"))
    with pytest.raises(steps.SourceRejected, match=r"belongs to https://127\.0\.0\.1"):
        world.run("second", server.url_for("/other/x.csv"))
    world.drop(SECOND)
    assert world.run("dropped")["quarantined"] == 1
    assert world.rows()[0]["memory_max"] == 1


def test_a_url_that_was_published_meanwhile_does_not_replace_it(world: World, server: HTTPServer) -> None:
    serve(server, (FIRST, {"ETag": '"1"'}), (SECOND, {"ETag": '"2"'}))
    url = server.url_for("/x.csv")
    late = steps.collect("late", url)
    steps.aggregate("late", url)
    world.run("newer", url)
    with pytest.raises(publication.PublishedMeanwhile, match="trigger it again"):
        steps.publish("late", late, url)
    assert world.rows()[0]["memory_max"] == 2


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"<!doctype html><title>Sign in</title>", "HTML"),
        (gzip.compress(FIRST, mtime=0), "gzip"),
        (b"PK\x03\x04" + FIRST, "zip"),
    ],
)
def test_what_is_no_csv_behind_a_url_fails_and_says_so(
    world: World, server: HTTPServer, body: bytes, name: str
) -> None:
    serve(server, (body, {}))
    with pytest.raises(UrlRefused, match=rf"/x\.csv is {name}.* and not CSV"):
        world.run("run", server.url_for("/x.csv"))
    assert world.keys() == []


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(FIRST * 100, mtime=0),
        gzip.compress(FIRST, mtime=0) + bytes(7) + gzip.compress(FIRST * 99, mtime=0) + bytes(300),
        b"".join(gzip.compress(bytes([each]), mtime=0) for each in FIRST * 100),
    ],
    ids=["one member", "padded members", "tiny members"],
)
def test_a_body_that_comes_as_gzip_is_decoded(server: HTTPServer, tmp_path: Path, body: bytes) -> None:
    asked = serve(server, (body, {"Content-Encoding": "GZip"}))
    version = fetch(server, "/x.csv", tmp_path, max_bytes=1_000_000)
    assert asked[0].headers["Accept-Encoding"] == "gzip"
    assert (tmp_path / "fetched").read_bytes() == FIRST * 100
    assert fetch(server, "/x.csv", tmp_path, max_bytes=1_000_000, known=version.etag) is None


@pytest.mark.parametrize(
    ("encoding", "body", "error", "sentence"),
    [
        ("br", FIRST, UrlRefused, "Content-Encoding 'br', and only gzip is supported"),
        ("gzip, deflate", FIRST, UrlRefused, "Content-Encoding 'gzip, deflate', and only gzip is supported"),
        ("deflate", zlib.compress(FIRST), UrlRefused, "Content-Encoding 'deflate', and only gzip is supported"),
        ("gzip", FIRST, UrlRefused, "is not valid gzip"),
        ("gzip", gzip.compress(FIRST, mtime=0) + b"more", UrlRefused, "is not valid gzip"),
        ("gzip", gzip.compress(FIRST, mtime=0)[:-1], UrlUnreachable, "gzip body broke off"),
        (
            "gzip",
            gzip.compress(bytes(50_000_000), mtime=0),
            UrlRefused,
            "larger than SLUICE_DATASETS_URL_MAX_BYTES=100000",
        ),
        ("gzip", gzip.compress(b"<html>", mtime=0), UrlRefused, "is HTML and not CSV"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_refused_by_name(
    server: HTTPServer, tmp_path: Path, encoding: str, body: bytes, error: type[Exception], sentence: str
) -> None:
    serve(server, (body, {"Content-Encoding": encoding}))
    with pytest.raises(error, match=sentence):
        fetch(server, "/x.csv", tmp_path, max_bytes=100_000)
    assert not (tmp_path / "fetched").exists() or (tmp_path / "fetched").stat().st_size <= 100_000


def test_an_address_that_is_not_public_is_refused_also_after_a_redirect(
    world: World, server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(server, (FIRST, {}))
    monkeypatch.delenv("SLUICE_DATASETS_URL_ALLOW_PRIVATE")
    load_settings.cache_clear()
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0"):
        with pytest.raises(UrlRefused, match=r"not public.*SLUICE_DATASETS_URL_ALLOW_PRIVATE=true"):
            world.run("run", f"https://{host}:{server.port}/x.csv")
    assert asked == []
    with monkeypatch.context() as first_hop:
        # The first hop is taken for public, as no test can have a public server.
        first_hop.setattr(connections, "is_public", lambda address: address == "127.0.0.1")
        for host in ("169.254.169.254", "127.0.0.2"):
            server.expect_request("/to" + host).respond_with_data(
                status=302, headers={"Location": f"https://{host}:{server.port}/x.csv"}
            )
            with pytest.raises(UrlRefused, match=f"host {host} has the address {host}, which is not public"):
                fetch(server, "/to" + host, tmp_path, allow_private=False)
    assert asked == []


def test_a_host_is_known_to_its_certificate_by_its_name(server: HTTPServer, tmp_path: Path) -> None:
    serve(server, (FIRST, {"ETag": '"1"'}))
    arguments: dict[str, Any] = {"timeout_seconds": 10, "max_bytes": 10_000, "allow_private": True}
    assert fetch_url(f"https://localhost:{server.port}/x.csv", tmp_path / "fetched", **arguments)
    with pytest.raises(UrlUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_url(f"https://127.1:{server.port}/x.csv", tmp_path / "fetched", **arguments)


def test_a_name_is_resolved_once_so_that_the_checked_address_is_used(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, (FIRST, {"ETag": '"1"'}))
    resolver, names = socket.getaddrinfo, []

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        names.append(host)
        return resolver(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = f"https://localhost:{server.port}/x.csv"
    assert fetch_url(url, tmp_path / "fetched", timeout_seconds=10, max_bytes=10_000, allow_private=True)
    assert names.count("localhost") == 1


def test_a_proxy_of_the_environment_is_not_used(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, (FIRST, {"ETag": '"1"'}))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert fetch(server, "/x.csv", tmp_path).etag == 'etag:"1"'


@pytest.mark.parametrize("url", ["https://xn--zz/x.csv", "https://host/" + "x" * 70_000])
def test_a_url_that_is_not_valid_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UrlRefused, match="is not a valid URL"):
        fetch_url(url, tmp_path / "fetched", timeout_seconds=10, max_bytes=10_000)


def test_a_redirect_is_followed_to_https_only(server: HTTPServer, tmp_path: Path) -> None:
    serve(server, (FIRST, {"ETag": '"1"'}))
    server.expect_request("/moved").respond_with_data(status=302, headers={"Location": "/x.csv"})
    server.expect_request("/plain").respond_with_data(status=302, headers={"Location": "http://127.0.0.1:1/x.csv"})
    server.expect_request("/round").respond_with_data(status=302, headers={"Location": "/round"})
    assert fetch(server, "/moved", tmp_path).etag == 'etag:"1"'
    assert (tmp_path / "fetched").read_bytes() == FIRST
    with pytest.raises(UrlRefused, match="redirects to http, which is not https"):
        fetch(server, "/plain", tmp_path)
    with pytest.raises(UrlRefused, match="more than 5 times"):
        fetch(server, "/round", tmp_path)


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_file_that_is_too_large_is_refused(server: HTTPServer, tmp_path: Path, is_declared: bool) -> None:
    body = FIRST * 1000
    answer = Response(body if is_declared else (body[start : start + 1000] for start in range(0, len(body), 1000)))
    server.expect_request("/x.csv").respond_with_response(answer)
    with pytest.raises(UrlRefused, match="larger than SLUICE_DATASETS_URL_MAX_BYTES=10000"):
        fetch(server, "/x.csv", tmp_path)
    assert not (tmp_path / "fetched").exists() or (tmp_path / "fetched").stat().st_size <= 10_000


@pytest.mark.parametrize(
    ("status", "error"), [(404, UrlRefused), (403, UrlRefused), (429, UrlUnreachable), (503, UrlUnreachable)]
)
def test_any_other_answer_says_whether_another_try_is_of_use(
    server: HTTPServer, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    server.expect_request("/x.csv").respond_with_data(b"sorry", status=status)
    with pytest.raises(error, match=f"/x.csv answered {status}") as raised:
        fetch(server, "/x.csv?signature=secret", tmp_path)
    assert "secret" not in str(raised.value)


def test_a_body_that_breaks_off_is_no_file(server: HTTPServer, tmp_path: Path) -> None:
    server.expect_request("/short").respond_with_response(Response(iter([FIRST]), headers={"Content-Length": "5000"}))
    with pytest.raises(UrlUnreachable, match="cannot be read"):
        fetch(server, "/short", tmp_path)


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (None, b""),
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\ni", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\ni", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b"", mtime=0)),
    ],
    ids=["handshake", "nothing", "headers", "informational", "one byte", "body", "empty gzip members"],
)
def test_a_slow_server_holds_no_download_beyond_the_time_limit(
    certificate: Path, tmp_path: Path, start: bytes | None, drip: bytes
) -> None:
    tls = ssl.create_default_context(cafile=certificate)
    arguments: dict[str, Any] = {"timeout_seconds": 0.3, "max_bytes": 10_000, "allow_private": True, "tls": tls}
    with (
        slow_server(certificate, start, drip) as url,
        pytest.raises(
            UrlUnreachable, match=r"took longer than SLUICE_DATASETS_URL_TIMEOUT_SECONDS=0\.3: only \d+ bytes"
        ),
    ):
        fetch_url(url, tmp_path / "fetched", **arguments)


def test_a_stalled_download_fails_before_the_time_limit(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "STALL_SECONDS", 0.1)
    tls = ssl.create_default_context(cafile=certificate)
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\ni"
    arguments: dict[str, Any] = {"timeout_seconds": 60, "max_bytes": 10_000, "allow_private": True, "tls": tls}
    with (
        slow_server(certificate, start, b"") as url,
        pytest.raises(UrlUnreachable, match=r"sent nothing for 0\.1 seconds after 1 bytes"),
    ):
        fetch_url(url, tmp_path / "fetched", **arguments)


def test_an_untrusted_certificate_is_refused(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, (FIRST, {}))
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UrlUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(server, "/x.csv", tmp_path)


def test_an_output_of_a_url_says_what_it_was_made_of(world: World, server: HTTPServer) -> None:
    serve(server, (FIRST, {"ETag": '"1"'}))
    world.run("run", server.url_for("/x.csv"))
    from sluice.pipelines.datasets.storage import read_published

    published = read_published(world.settings.lake_bucket, OUTPUT)
    assert published
    assert published.source == server.url_for("/x.csv")
    assert published.version.etag == 'etag:"1"'
