from __future__ import annotations

import pytest

from sluice.pipelines.datasets.records import BadSource, parse_key, parse_source

BUCKET = "my.landing-bucket"


@pytest.mark.parametrize(
    ("text", "address", "output"),
    [
        ("datasets/x.csv", f"s3://{BUCKET}/datasets/x.csv", "curated/datasets/x.parquet"),
        (
            f"s3://{BUCKET}/datasets/a/b c+%20.csv",
            f"s3://{BUCKET}/datasets/a/b c+%20.csv",
            "curated/datasets/b c+%20.parquet",
        ),
        ("datasets/a.tar.csv", f"s3://{BUCKET}/datasets/a.tar.csv", "curated/datasets/a.tar.parquet"),
        (
            "datasets/..a/b../%2e%2e/x..csv",
            f"s3://{BUCKET}/datasets/..a/b../%2e%2e/x..csv",
            "curated/datasets/x..parquet",
        ),
        ("https://host/..a/x.csv?from=../%0a/..", "https://host/..a/x.csv", "curated/datasets/x.parquet"),
        ("datasets/plain", f"s3://{BUCKET}/datasets/plain", "curated/datasets/plain.parquet"),
        ("https://host/a/x.csv?signature=secret", "https://host/a/x.csv", "curated/datasets/x.parquet"),
        (
            "https://host:8443/na%C3%AFve%20x.csv#top",
            "https://host:8443/na%C3%AFve%20x.csv",
            "curated/datasets/naïve x.parquet",
        ),
    ],
)
def test_a_source_names_its_output_and_no_address_holds_a_signature(text: str, address: str, output: str) -> None:
    source = parse_source(text, BUCKET)
    assert (source.address, source.output_key) == (address, output)
    assert source.encoded_address.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "x.csv",
        "datasets/",
        "datasets/a/",
        "accommodations/x.csv",
        "s3://another/datasets/x.csv",
        "s3://myxlanding-bucket/datasets/x.csv",
        "http://host/x.csv",
        "https://user:password@host/x.csv",
        "https://host",
        "https:///x.csv",
        "https://host/a b.csv",
        "ftp://host/x.csv",
        "",
        "/datasets/x.csv",
        "datasets/x.csv\n",
        "datasets/a\nb.csv",
        "datasets/a\x7fb.csv",
        "datasets/a\\b.csv",
        "datasets/../x.csv",
        "datasets/a/./x.csv",
        "datasets/..",
        f"s3://{BUCKET}/datasets/a/../x.csv",
        "https://host/x.csv\n",
        "https://host/../x.csv",
        "https://host/a/%2E%2e/x.csv",
        "https://host/a%2f.%2e%2Fx.csv",
        "https://host/a/..?x",
        "https://host/a%0a/x.csv",
        "https://host/a%5Cx.csv",
        "https://host\\a/x.csv",
    ],
)
def test_what_names_no_source_is_refused(text: str) -> None:
    with pytest.raises(BadSource, match="source "):
        parse_source(text, BUCKET)


@pytest.mark.parametrize(
    "text",
    [
        "datasets/.csv",
        "https://host/a/",
        "https://[host/x.csv",
        "https://host:port/x.csv",
        "datasets/" + "x" * 1010 + ".csv",
        "datasets/" + "ü" * 400 + ".csv",
    ],
)
def test_what_only_looks_like_a_source_is_refused(text: str) -> None:
    with pytest.raises(BadSource):
        parse_source(text, BUCKET)


def test_a_message_holds_no_password() -> None:
    with pytest.raises(BadSource) as refused:
        parse_source("https://user:hunter2@host/x.csv", BUCKET)
    assert "hunter2" not in str(refused.value)


def test_a_url_cannot_be_awaited() -> None:
    assert parse_key("datasets/x.csv", BUCKET) == parse_source("datasets/x.csv", BUCKET)
    with pytest.raises(BadSource, match=f"give an address or a key below s3://{BUCKET}/datasets/"):
        parse_key("https://host/x.csv", BUCKET)
