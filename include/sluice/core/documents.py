"""Typed documents in S3: frozen dataclasses that one step of a run saves as JSON and the next one loads."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

import msgspec

from sluice.aws import s3
from sluice.lake import StagingExpired

Document = TypeVar("Document")


def save(bucket: str, key: str, document: object) -> str:
    """Write or replace a document (one atomic PUT); returns its s3:// address.

    Args:
        bucket: the lake bucket.
        key: of the document.
        document: dataclasses, named tuples, lists, dicts, text, numbers, UTC times and enums, nested in any way.
    """
    # A lone surrogate, as in a malformed record, has no UTF-8 encoding; Python's escape of it equals that of JSON.
    body = json.dumps(msgspec.to_builtins(document), ensure_ascii=False).encode(errors="backslashreplace")
    return s3.write_object(bucket, key, body)


def load(bucket: str, key: str, kind: type[Document]) -> Document:
    """Read a document.

    Raises:
        StagingExpired: it does not exist any more, or has another format because it was saved before an upgrade.
    """
    found: Any = json.loads(s3.read_object(bucket, key).body)
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise StagingExpired(bucket, key, why=f"was saved by another version of sluice ({error})") from None


def digest(document: object) -> str:
    """SHA-256 of a document."""
    return hashlib.sha256(json.dumps(msgspec.to_builtins(document), sort_keys=True).encode()).hexdigest()
