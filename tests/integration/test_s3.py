from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dockerhub_account import DockerHubAccount
from embedded_aws import FaultInjection
from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.core import quarantine
from sluice.core.run import Run

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def bucket(account: DockerHubAccount) -> str:
    account.silence()
    return account.settings.lake_bucket


def test_an_object_is_read_as_it_was_written_and_replaced_whole(bucket: str) -> None:
    assert s3.write_object(bucket, "a/b c+d.json", b"one", "text/plain") == f"s3://{bucket}/a/b c+d.json"
    s3.write_object(bucket, "a/b c+d.json", b"two")
    stored = s3.read_object(bucket, "a/b c+d.json")
    head = client("s3").head_object(Bucket=bucket, Key="a/b c+d.json")
    assert stored == s3.StoredObject(b"two", head["LastModified"])
    assert head["ContentType"] == "application/json"
    assert stored.last_modified.tzinfo is not None


def test_an_object_that_is_missing_or_deleted_is_named(bucket: str) -> None:
    s3.write_object(bucket, "deleted", b"")
    client("s3").delete_object(Bucket=bucket, Key="deleted")
    for key in ("never", "deleted"):
        with pytest.raises(s3.ObjectMissing, match=f"s3://{bucket}/{key} does not exist"):
            s3.read_object(bucket, key)
        assert not s3.object_exists(bucket, key)


def test_an_empty_object_exists(bucket: str) -> None:
    s3.write_object(bucket, "empty", b"")
    assert s3.object_exists(bucket, "empty")
    assert s3.read_object(bucket, "empty").body == b""


def test_a_bucket_that_is_missing_is_no_missing_object(bucket: str) -> None:
    # Else a wrong setting would look like an empty lake.
    with pytest.raises(ClientError, match="S3 bucket no-such-bucket-here does not exist"):
        s3.read_object("no-such-bucket-here", "key")
    with pytest.raises(ClientError, match="S3 bucket no-such-bucket-here does not exist"):
        list(s3.list_keys("no-such-bucket-here", ""))


def test_a_store_that_fails_is_no_missing_object(
    account: DockerHubAccount, account_faults: FaultInjection, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.write_object(bucket, "key", b"")

    def refuse(**_: Any) -> None:
        raise ClientError(
            {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}},  # type: ignore[typeddict-item]
            "HeadObject",
        )

    monkeypatch.setattr(client("s3"), "head_object", refuse)
    monkeypatch.setattr(client("s3"), "get_object", refuse)
    with pytest.raises(ClientError, match="SlowDown"):
        s3.object_exists(bucket, "key")
    with pytest.raises(ClientError, match="SlowDown"):
        s3.read_object(bucket, "key")


def test_a_listing_follows_every_page(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"many/{folder}/{number}" for folder in "abcdefg" for number in range(3)]
    for key in [*keys, "other/1"]:
        s3.write_object(bucket, key, b"")
    pages: Any = client("s3").get_paginator

    def small_pages(name: str) -> Any:
        paginator = pages(name)
        whole = paginator.paginate
        monkeypatch.setattr(paginator, "paginate", lambda **asked: whole(**asked, PaginationConfig={"PageSize": 2}))
        return paginator

    monkeypatch.setattr(client("s3"), "get_paginator", small_pages)
    assert list(s3.list_keys(bucket, "many/")) == keys
    assert list(s3.list_folders(bucket, "many/")) == [f"many/{folder}/" for folder in "abcdefg"]
    assert list(s3.list_keys(bucket, "none/")) == list(s3.list_folders(bucket, "none/")) == []


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=4))
def test_rows_of_any_text_come_back_as_they_were(bucket: str, rows: list[dict[str, Any]]) -> None:
    s3.write_json_lines(bucket, "rows.jsonl", rows)
    assert s3.read_json_lines(bucket, "rows.jsonl") == rows


def test_a_row_with_any_content_is_one_line_of_utf_8(bucket: str) -> None:
    rows = [
        {"record": text} for text in ("line\nbreak", "\u2028 \u2029 \x85 \x1e", "ü 漢 😀", "half \ud800", "\\ud800")
    ]
    s3.write_json_lines(bucket, "rows.jsonl", rows)
    body = s3.read_object(bucket, "rows.jsonl").body
    lines = body.split(b"\n")
    assert [json.loads(line.decode()) for line in lines[:-1]] == rows
    assert lines[-1] == b""
    assert "漢".encode() in body, "a person can read it"


def test_a_quarantine_file_has_source_reason_and_record_and_is_overwritten(bucket: str) -> None:
    rejections = [quarantine.Rejection(f"s3://a/{number}", "not_json", "<html>\n", "no JSON") for number in range(2)]
    for _ in range(2):
        address = Run("dockerhub", "run", bucket).quarantine("collect", rejections)
    assert address == f"s3://{bucket}/quarantine/dockerhub/run/collect.jsonl"
    assert s3.read_json_lines(bucket, "quarantine/dockerhub/run/collect.jsonl") == [
        {"source": f"s3://a/{number}", "reason": "not_json", "record": "<html>\n", "detail": "no JSON"}
        for number in range(2)
    ]
