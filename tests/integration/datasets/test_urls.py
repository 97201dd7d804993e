"""Datasets from https URLs: a real server with TLS, which this process trusts by SSL_CERT_FILE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from datasets_world import OUTPUT, World, csv_of, row
from https_server import https_server, make_certificate
from sluice import s3
from sluice.datasets import steps
from sluice.datasets.source import UrlRefused, UrlUnreachable, fetch_url

FIRST = csv_of(row(memory=1))
SECOND = csv_of(row(memory=2))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with https_server(certificate) as running:
        yield running


def fetch(server: HTTPServer, path: str, to: Path, **arguments: Any) -> Any:
    given: dict[str, Any] = {"timeout_seconds": 10, "max_bytes": 10_000} | arguments
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
def test_without_a_usable_etag_an_unchanged_url_is_known_by_its_date_or_its_bytes(
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
    with pytest.raises(steps.PublishedMeanwhile, match="trigger it again"):
        steps.publish("late", late, url)
    assert world.rows()[0]["memory_max"] == 2


def test_what_is_no_csv_behind_a_url_fails_and_says_so(world: World, server: HTTPServer) -> None:
    serve(server, (b"<!doctype html><title>Sign in</title>", {}))
    with pytest.raises(steps.SourceRejected, match="the file is HTML and not CSV"):
        world.run("run", server.url_for("/x.csv"))
    assert world.keys() == []


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
def test_a_file_that_is_too_large_is_given_up(server: HTTPServer, tmp_path: Path, is_declared: bool) -> None:
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


def test_a_body_that_breaks_off_or_takes_too_long_is_no_file(server: HTTPServer, tmp_path: Path) -> None:
    server.expect_request("/short").respond_with_response(Response(iter([FIRST]), headers={"Content-Length": "5000"}))
    with pytest.raises(UrlUnreachable, match="cannot be read"):
        fetch(server, "/short", tmp_path)
    serve(server, (FIRST, {}))
    with pytest.raises(UrlUnreachable, match=r"cannot be read|took longer than"):
        fetch(server, "/x.csv", tmp_path, timeout_seconds=0.000001)


def test_a_certificate_that_nobody_trusts_is_refused(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, (FIRST, {}))
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UrlUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(server, "/x.csv", tmp_path)


def test_an_output_of_a_url_says_what_it_was_made_of(world: World, server: HTTPServer) -> None:
    serve(server, (FIRST, {"ETag": '"1"'}))
    world.run("run", server.url_for("/x.csv"))
    from sluice.datasets.storage import read_published

    published = read_published(world.settings.lake_bucket, OUTPUT)
    assert published
    assert published.source == server.url_for("/x.csv")
    assert published.version.etag == 'etag:"1"'
