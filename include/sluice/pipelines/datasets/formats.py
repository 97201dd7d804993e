"""Detects the format of files other than CSV by their first bytes."""

from __future__ import annotations

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip (also xlsx)",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xd0\xcf\x11\xe0": "xls",
    b"PAR1": "parquet",
    b"Obj\x01": "avro",
    b"%PDF-": "PDF",
}
_HTML = (b"<!doctype html", b"<html")

START_BYTES = 1024
"""Number of first bytes needed."""


def other_format(start: bytes) -> str | None:
    """The format of a file that begins with these bytes; None if it may be CSV."""
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name
    text = start[:START_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return "HTML" if text.startswith(_HTML) else None
