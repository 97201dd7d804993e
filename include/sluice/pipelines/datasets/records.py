"""A source and its name, a row of its CSV, and the reason codes of `datasets` (docs/pipelines.md, datasets). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote, urlsplit

from sluice.errors import TerminalError

SOURCE_PREFIX = "datasets/"
"""Prefix of incoming files in the landing bucket."""

OUTPUT_PREFIX = "curated/datasets/"

COLUMNS = ("id", "class", "memory", "percentage", "ratio", "fob", "dp", "recovered")
"""The header of a file: these names, each once, in any order."""

USED_COLUMNS = ("memory", "percentage", "ratio", "dp", "recovered")
"""Columns that are validated; the others may hold any text."""

KEY_MAX_BYTES = 1024
"""Maximum length of a key of S3."""

ADDRESS_MAX_LENGTH = 1500
"""Maximum length of an address in percent-encoding, which is in the metadata of the output (at most 2 KB in S3)."""


class Reason(StrEnum):
    """Reasons to reject a row or a whole file: stable codes for the quarantine."""

    # a row
    WRONG_COLUMN_COUNT = "wrong_column_count"
    UNCLOSED_QUOTE = "unclosed_quote"
    RECORD_TOO_LONG = "record_too_long"
    BAD_ENCODING = "bad_encoding"
    MEMORY_NOT_INTEGER = "memory_not_integer"
    MEMORY_OUT_OF_RANGE = "memory_out_of_range"
    PERCENTAGE_NOT_NUMBER = "percentage_not_number"
    PERCENTAGE_OUT_OF_RANGE = "percentage_out_of_range"
    RATIO_NOT_NUMBER = "ratio_not_number"
    RATIO_OUT_OF_RANGE = "ratio_out_of_range"
    RECOVERED_NOT_INTEGER = "recovered_not_integer"
    RECOVERED_OUT_OF_RANGE = "recovered_out_of_range"
    MISSING_DP = "missing_dp"
    # a file
    EMPTY_FILE = "empty_file"
    NOT_CSV = "not_csv"
    NOT_UTF8 = "not_utf8"
    WRONG_HEADER = "wrong_header"
    NO_ROW_ACCEPTED = "no_row_accepted"
    BAD_NAME = "bad_name"
    NAME_TAKEN = "name_taken"
    OBJECT_MISSING = "object_missing"


DETAILS = {
    Reason.MEMORY_NOT_INTEGER: "memory {} is not an integer",
    Reason.MEMORY_OUT_OF_RANGE: "memory {} is not between -32768 and 32767",
    Reason.PERCENTAGE_NOT_NUMBER: "percentage {} is not a number",
    Reason.PERCENTAGE_OUT_OF_RANGE: "percentage {} is not between 0 and 1",
    Reason.RATIO_NOT_NUMBER: "ratio {} is not a number",
    Reason.RATIO_OUT_OF_RANGE: "ratio {} is beyond float64",
    Reason.RECOVERED_NOT_INTEGER: "recovered {} is not an integer",
    Reason.RECOVERED_OUT_OF_RANGE: "recovered {} is not between -128 and 127",
    Reason.MISSING_DP: "dp is empty",
}
"""Messages for invalid values."""


class BadSource(TerminalError):
    """The parameter `source` is not a valid address."""


@dataclass(frozen=True)
class Source:
    """Address of one source file.

    Attributes:
        address: identifies the file in messages and as the owner of an output: `s3://bucket/key`, or the URL without
            its query, which may hold a signature.
        location: where to read it: the key, or the whole URL.
        is_url: an https URL and not an object of the landing bucket.
    """

    address: str
    location: str
    is_url: bool = False

    @property
    def name(self) -> str:
        """File name without its extension, which names the output; empty where there is none."""
        path = unquote(urlsplit(self.location).path) if self.is_url else self.location
        file_name = path.rsplit("/", 1)[-1]
        stem, dot, _ = file_name.rpartition(".")
        return stem if dot else file_name

    @property
    def output_key(self) -> str:
        """Key of the published parquet file."""
        return f"{OUTPUT_PREFIX}{self.name}.parquet"

    @property
    def encoded_address(self) -> str:
        """The address in the encoding of S3 metadata."""
        return quote(self.address, safe="/:")

    @property
    def has_usable_name(self) -> bool:
        """Whether key of the output and address are within the limits of S3."""
        is_plain = re.fullmatch(r"[^\x00-\x1f\x7f/]+", self.name) is not None and self.name not in (".", "..")
        return (
            is_plain
            and len(self.output_key.encode("utf-8", "replace")) <= KEY_MAX_BYTES
            and len(self.encoded_address) <= ADDRESS_MAX_LENGTH
        )


def source_of_key(bucket: str, key: str) -> Source:
    """An object of the landing bucket."""
    return Source(f"s3://{bucket}/{key}", key)


def parse_source(text: str, landing_bucket: str) -> Source:
    """The source written as `s3://<landing bucket>/datasets/...`, as such a key, or as an https URL.

    Raises:
        BadSource: it is none of these, its path holds a control character, a backslash or a segment `.` or `..`, or
            its file name cannot name an output.
    """
    if text.startswith(("https://", "http://")):
        source = _source_of_url(text)
    else:
        key = text.removeprefix(f"s3://{landing_bucket}/")
        if not key.startswith(SOURCE_PREFIX):
            raise BadSource(
                f"source {_short(text)} is not below s3://{landing_bucket}/{SOURCE_PREFIX}: give such an address, its"
                f" key ({SOURCE_PREFIX}...), or an https URL"
            )
        source = source_of_key(landing_bucket, key)
    path = unquote(urlsplit(text).path) if source.is_url else source.location
    if re.search(r"[\x00-\x1f\x7f\\]", text + path) or {".", ".."} & set(path.split("/")):
        raise BadSource(
            f"source {_short(source.address)} holds a control character, a backslash, or '.' or '..' as a part of its"
            " path: give the address without it"
        )
    if not source.has_usable_name:
        raise BadSource(
            f"source {_short(source.address)} has no valid file name for a dataset: name a file, such as"
            f" {SOURCE_PREFIX}sales.csv"
        )
    return source


def parse_key(text: str, landing_bucket: str) -> Source:
    """The same for a source that is an object of the landing bucket.

    Raises:
        BadSource: also where it is a URL.
    """
    source = parse_source(text, landing_bucket)
    if source.is_url:
        raise BadSource(
            f"source {_short(source.address)} is a URL, whose arrival cannot be awaited: give an address or a key below"
            f" s3://{landing_bucket}/{SOURCE_PREFIX}"
        )
    return source


def _source_of_url(text: str) -> Source:
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise BadSource(f"source is not a URL: {error}") from None
    if parts.scheme != "https":
        raise BadSource(f"source {_short(text.split('?')[0])} is not https: a CSV is only fetched from https URLs")
    if not host or re.search(r"\s", text):
        raise BadSource(f"source {_short(text.split('?')[0])} is not a URL: write https://host/path/file.csv")
    if parts.username or parts.password:
        raise BadSource("source holds a user or password, which would appear in logs: give a URL without them")
    return Source(f"https://{parts.netloc}{parts.path}", text, is_url=True)


def _short(text: str) -> str:
    return ascii(text if len(text) <= 200 else text[:197] + "...")
