"""Files of the lake: one page of a folder, and the beginning of an object as rows or text; reads are bounded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.lake_views.places import ZONES, expires_at, zone_of
from sluice.settings import Settings

PAGE_KEYS = 200
"""Folders and objects of one page."""

ROWS = 50
HEAD_BYTES = 256 * 1024
"""Bytes of a text that a preview reads."""

CELL_CHARACTERS = 500
RANGE_BYTES = 1024 * 1024
"""Bytes of a parquet file that one request reads."""


def list_folder(settings: Settings, prefix: str, token: str = "") -> dict[str, Any]:
    """One page of a folder of the lake bucket: its folders, and its objects with size, time and expiry.

    Args:
        settings: the settings of this process.
        prefix: the folder, ending in `/`; "" for the zones.
        token: of the page before; "" for the first.

    Raises:
        OutsideTheLake: the prefix is in no zone.
    """
    if not prefix:
        folders = [{"prefix": zone, "kept_days": days} for zone, days in ZONES.items()]
        return {"bucket": settings.lake_bucket, "prefix": "", "folders": folders, "objects": [], "next": ""}
    zone = zone_of(prefix)
    arguments: Any = {"ContinuationToken": token} if token else {}
    answer = client("s3").list_objects_v2(
        Bucket=settings.lake_bucket, Prefix=prefix, Delimiter="/", MaxKeys=PAGE_KEYS, **arguments
    )
    return {
        "bucket": settings.lake_bucket,
        "prefix": prefix,
        "kept_days": ZONES[zone],
        "folders": [{"prefix": each["Prefix"]} for each in answer.get("CommonPrefixes", [])],
        "objects": [
            {
                "key": each["Key"],
                "size_bytes": each["Size"],
                "stored_at": each["LastModified"].isoformat(),
                "expires_at": _text(expires_at(each["Key"], each["LastModified"])),
            }
            for each in answer.get("Contents", [])
            if each["Key"] != prefix
        ],
        "next": answer.get("NextContinuationToken", ""),
    }


def preview(settings: Settings, key: str) -> dict[str, Any]:
    """An object's size, times and beginning.

    Returns:
        `kind` is `rows` (with `columns` and `rows`), `text`, `html` (both with `text`) or `none`; `is_whole` is whether
        that is all of it.

    Raises:
        ObjectMissing: there is no such object.
        OutsideTheLake: the key is in no zone.
    """
    zone_of(key)
    found = s3.find_object(settings.lake_bucket, key)
    if found is None:
        raise s3.ObjectMissing(settings.lake_bucket, key)
    about = {
        "bucket": settings.lake_bucket,
        "key": key,
        "size_bytes": found.size_bytes,
        "stored_at": found.last_modified.isoformat(),
        "expires_at": _text(expires_at(key, found.last_modified)),
    }
    ending = key.rpartition(".")[2].lower()
    if ending == "parquet":
        return about | _parquet(settings, key, found.size_bytes)
    if ending not in ("json", "jsonl", "csv", "html", "txt", "md"):
        return about | {"kind": "none", "is_whole": False}
    body = s3.read_head(settings.lake_bucket, key, HEAD_BYTES) if found.size_bytes else b""
    is_whole = found.size_bytes <= HEAD_BYTES
    text = body.decode("utf-8-sig", errors="replace")
    if ending == "jsonl":
        return about | _json_lines(text, is_whole=is_whole)
    if ending == "csv":
        return about | _csv(text, is_whole=is_whole)
    if ending == "json" and is_whole:
        text = _pretty(text)
    return about | {"kind": "html" if ending == "html" else "text", "text": text, "is_whole": is_whole}


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def whole_lines(text: str, *, is_whole: bool) -> Iterator[str]:
    """Lines of the beginning of a text, without the last one if it may be cut."""
    lines = text.split("\n")
    yield from (line for line in (lines if is_whole else lines[:-1]) if line)


def _json_lines(text: str, *, is_whole: bool) -> dict[str, Any]:
    lines = list(whole_lines(text, is_whole=is_whole))
    rows: list[dict[str, Any]] = []
    for line in lines[:ROWS]:
        try:
            value = json.loads(line)
        except ValueError:
            value = line
        rows.append(value if isinstance(value, dict) else {"line": value})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[cell(row.get(name)) for name in columns] for row in rows]
    return {"kind": "rows", "columns": columns, "rows": cells, "is_whole": is_whole and len(lines) <= ROWS}


def _csv(text: str, *, is_whole: bool) -> dict[str, Any]:
    lines = list(csv.reader(whole_lines(text, is_whole=is_whole)))
    columns, rows = (lines[0], lines[1:]) if lines else ([], [])
    cells = [[cell(value) for value in row] for row in rows[:ROWS]]
    return {"kind": "rows", "columns": columns, "rows": cells, "is_whole": is_whole and len(rows) <= ROWS}


def _parquet(settings: Settings, key: str, size_bytes: int) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.PythonFile(RangedObject(settings.lake_bucket, key, size_bytes), "r")) as file:
        names = file.schema_arrow.names
        batch = next(file.iter_batches(batch_size=ROWS), None)
        total = file.metadata.num_rows
    rows = batch.to_pylist() if batch else []
    cells = [[cell(row[name]) for name in names] for row in rows]
    return {"kind": "rows", "columns": names, "rows": cells, "total_rows": total, "is_whole": total <= ROWS}


def cell(value: Any) -> Any:
    """A value for JSON: numbers that a browser represents exactly, texts up to a maximum length, other values as
    text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    text = value if isinstance(value, str) else str(value) if isinstance(value, Decimal) else _json(value)
    return text if len(text) <= CELL_CHARACTERS else text[:CELL_CHARACTERS] + "..."


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


class RangedObject(io.RawIOBase):
    """An object of S3 as a seekable file, read by ranges: reading a part of a large file transfers only that part.

    Args:
        bucket: of the object.
        key: of the object.
        size_bytes: of the object.
    """

    def __init__(self, bucket: str, key: str, size_bytes: int) -> None:
        self._bucket, self._key, self._size = bucket, key, size_bytes
        self._at = 0
        self._block, self._block_start = b"", 0

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek to a position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Bytes from the position, fewer at the end."""
        size = self._size - self._at if size < 0 else min(size, self._size - self._at)
        if size <= 0:
            return b""
        if not self._block_start <= self._at <= self._at + size <= self._block_start + len(self._block):
            # Footers and small files in one request: the block that ends with the file, or starts here.
            start = max(0, min(self._at, self._size - RANGE_BYTES))
            end = min(self._size, max(self._at + size, start + RANGE_BYTES))
            answer = client("s3").get_object(Bucket=self._bucket, Key=self._key, Range=f"bytes={start}-{end - 1}")
            self._block, self._block_start = answer["Body"].read(), start
        begin = self._at - self._block_start
        self._at += size
        return self._block[begin : begin + size]
