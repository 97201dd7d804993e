"""Routes of the page Lake, for a user with access to the Dags of one pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from sluice.aws import s3
from sluice.aws.sessions import client, giving_up_soon
from sluice.core.quarantine import Rejection
from sluice.core.run import Run
from sluice.settings import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient

OWN = "quarantine/events/shard/x.jsonl"
OTHER = "quarantine/datasets/run/files.jsonl"


@pytest.fixture
def events_reader(settings: Settings, airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The application for somebody who may read the Dags of events only, with records of two pipelines."""
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.testclient import TestClient

    from sluice_airflow.lake import app

    client("s3").create_bucket(Bucket=settings.lake_bucket)
    Run.of("events", "shard").quarantine("x", [Rejection("s3://x/1", "bad_uuid", "mine", "no UUID")])
    Run.of("datasets", "run").quarantine("files", [Rejection("s3://x/2", "not_json", "secret", "no JSON")])
    for key in ("raw/secret.json", "raw/events/1.json", "raw/events_other/1.json", "curated/events/data/1.json"):
        s3.write_object(settings.lake_bucket, key, b"{}")
    monkeypatch.setattr(app, "may_release", lambda *_: False)
    made = app.make_app()
    for each in app.api.dependencies:
        assert each.dependency
        made.dependency_overrides[each.dependency] = lambda: None
    made.dependency_overrides[get_user] = lambda: SimpleNamespace(get_name=lambda: "reader")
    made.dependency_overrides[app.readable_dags] = lambda: {"events_ingest", "events_hourly"}
    with giving_up_soon(), TestClient(made) as asking:
        yield asking


def get(asking: TestClient, path: str, **values: str) -> tuple[int, Any]:
    answer = asking.get(f"/api/{path}", params=values)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    "key",
    [
        "raw/",
        "staging/",
        "curated/",
        "quarantine/",
        "quality/",
        "quarantine",
        "quarantine/events",
        "quarantine/events/",
        "quarantine/events/../datasets/run/files.jsonl",
        "raw/events/1.json",
        "quarantine/datasets",
        "quarantine/datasets/",
        OTHER,
    ],
)
def test_a_quarantine_key_outside_of_the_user_s_pipelines_is_refused(events_reader: TestClient, key: str) -> None:
    status, found = get(events_reader, "quarantine", key=key)
    assert status in (403, 404), found
    assert "secret" not in str(found)


def test_a_quarantine_key_is_one_object_and_not_a_prefix(events_reader: TestClient, settings: Settings) -> None:
    s3.write_object(settings.lake_bucket, OWN + ".jsonl", b'{"reason": "another", "record": "x"}\n')
    status, found = get(events_reader, "quarantine", key=OWN)
    assert (status, [each["record"] for each in found["records"]]) == (200, ["mine"])
    assert get(events_reader, "quarantine", key="quarantine/events/shard/")[0] == 404
    assert get(events_reader, "quarantine", key="quarantine/events/sh")[1].get("records", []) == []


def test_without_a_key_only_records_of_own_pipelines_are_shown(events_reader: TestClient) -> None:
    assert [each["record"] for each in get(events_reader, "quarantine")[1]["records"]] == ["mine"]
    assert get(events_reader, "quarantine", pipeline="datasets")[0] == 403


@pytest.mark.parametrize("prefix", ["raw", "raw/events", "raw/e", "curated/events", "raw/datasets/", "raw//"])
def test_a_folder_of_the_lake_is_a_whole_folder_of_an_own_pipeline(events_reader: TestClient, prefix: str) -> None:
    assert get(events_reader, "files", prefix=prefix)[0] in (403, 404)


def test_a_zone_shows_the_folders_of_own_pipelines_and_no_objects(events_reader: TestClient) -> None:
    found = get(events_reader, "files", prefix="raw/")[1]
    assert ([each["prefix"] for each in found["folders"]], found["objects"]) == (["raw/events/"], [])
    found = get(events_reader, "files", prefix="raw/events/")[1]
    assert [each["key"] for each in found["objects"]] == ["raw/events/1.json"]


@pytest.mark.parametrize("route", ["files/preview", "files/download"])
@pytest.mark.parametrize("key", ["", "raw/", "raw", "raw/secret.json", "raw/events_other/1.json", "raw/events/", OTHER])
def test_an_object_of_no_own_pipeline_is_not_read(events_reader: TestClient, route: str, key: str) -> None:
    assert get(events_reader, route, key=key)[0] in (403, 404)


def test_an_object_of_an_own_pipeline_is_read(events_reader: TestClient) -> None:
    assert get(events_reader, "files/preview", key="raw/events/1.json")[1]["text"] == "{}"
    assert get(events_reader, "files/download", key="curated/events/data/1.json") == (200, {})


def asked_from(origin: str, host: str) -> Any:
    from starlette.requests import Request

    headers = {"origin": origin, "host": host, "content-type": "application/json"}
    return Request(
        {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value]}
    )


@pytest.mark.parametrize(
    ("origin", "host", "base_url", "is_refused"),
    [
        ("http://here:8080", "here:8080", "", False),
        ("https://airflow.example", "api:8080", "https://airflow.example/team", False),
        ("https://evil.example", "api:8080", "https://airflow.example/team", True),
        ("https://airflow.example:444", "api:8080", "https://airflow.example", True),
        ("null", "", "", True),
    ],
)
def test_a_release_must_come_from_the_web_ui_also_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch, origin: str, host: str, base_url: str, *, is_refused: bool
) -> None:
    from fastapi import HTTPException

    from sluice_airflow.lake import app

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    if is_refused:
        with pytest.raises(HTTPException, match="other sites"):
            app.require_same_site(asked_from(origin, host))
    else:
        app.require_same_site(asked_from(origin, host))
