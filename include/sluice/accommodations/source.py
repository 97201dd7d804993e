"""Reading a partner's file of any size, line by line or as one JSON array, without trusting it. No AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from sluice.accommodations.records import MAX_BYTES, MAX_RAW_BYTES, Flaw, Reason

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 4 * 1024 * 1024
"""Read at a time."""

BOM = b"\xef\xbb\xbf"


class UnreadableFile(ValueError):
    """Nothing can be taken from a file.

    Attributes:
        flaw: why.
    """

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.detail)
        self.flaw = flaw


def detect_format(path: Path) -> Literal["lines", "array"]:
    """Whether a file is JSON Lines or one JSON array.

    A file that begins with `[` is an array, unless its first line is complete by itself and others follow.

    Raises:
        UnreadableFile: it is compressed, or UTF-16.
    """
    with path.open("rb") as file:
        head = file.read(MAX_BYTES)
        if head.startswith(b"\x1f\x8b"):
            raise UnreadableFile(Flaw.COMPRESSED)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UnreadableFile(Flaw.UTF16)
        begin = head.removeprefix(BOM).lstrip()
        if not begin.startswith(b"["):
            return "lines"
        first, newline, rest = begin.partition(b"\n")
        if newline and _is_json(first) and (rest.strip() or _has_more(file)):
            return "lines"
    return "array"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _has_more(file: BinaryIO) -> bool:
    return any(block.strip() for block in iter(lambda: file.read(BLOCK_BYTES), b""))


def line_batches(path: Path, first_record_id: int) -> Iterator[pa.RecordBatch]:
    """The lines of a file as batches of `record_id`, `text` and `flaw`, in their order.

    Lines may still be anything; one that is not UTF-8 or longer than `MAX_RAW_BYTES` has its reason in `flaw`, and what
    can be shown of it in `text`. At no time more than one line and two blocks are in memory.

    Args:
        path: the file.
        first_record_id: number of the first line.
    """
    number = first_record_id
    with path.open("rb") as file:
        rest = file.read(len(BOM)).removeprefix(BOM)
        while block := file.read(BLOCK_BYTES):
            rest += block
            end = rest.rfind(b"\n") + 1
            if end:
                batch = _batch(rest[:end], number)
                yield batch
                number += batch.num_rows
                rest = rest[end:]
            elif len(rest) > MAX_RAW_BYTES:
                yield _flawed_batch([(rest[:MAX_BYTES], Reason.TOO_LARGE)], number)
                number += 1
                rest = _after_line(file)
    if rest:
        yield _batch(rest if rest.endswith(b"\n") else rest + b"\n", number)


def _after_line(file: BinaryIO) -> bytes:
    """Pass over the rest of a line, however long; what was read behind it."""
    while block := file.read(BLOCK_BYTES):
        _, newline, behind = block.partition(b"\n")
        if newline:
            return behind
    return b""


def _batch(lines: bytes, number: int) -> pa.RecordBatch:
    """One batch of complete lines, their newlines included; without a copy unless one of them is flawed."""
    import numpy as np
    import pyarrow as pa

    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")).astype(np.int32) + 1
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    text = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(lines))
    if np.diff(offsets).max() - 1 > MAX_RAW_BYTES or not _is_utf8(text):
        return _flawed_batch([_checked(line) for line in lines.split(b"\n")[:-1]], number)
    numbers = pa.array(np.arange(number, number + len(ends)))
    return pa.record_batch([numbers, text, pa.nulls(len(ends), pa.string())], schema=lines_schema())


def _is_utf8(text: pa.StringArray) -> bool:
    import pyarrow as pa

    try:
        # Ten times as fast as decoding it.
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _checked(line: bytes) -> tuple[bytes, Reason | None]:
    if len(line) > MAX_RAW_BYTES:
        return line[:MAX_BYTES], Reason.TOO_LARGE
    try:
        line.decode()
    except UnicodeDecodeError:
        return line, Reason.NOT_UTF8
    return line, None


def _flawed_batch(lines: list[tuple[bytes, Reason | None]], number: int) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.record_batch(
        [
            pa.array(range(number, number + len(lines)), pa.int64()),
            pa.array([line.decode(errors="backslashreplace") for line, _ in lines], pa.string()),
            pa.array([flaw for _, flaw in lines], pa.string()),
        ],
        schema=lines_schema(),
    )


def lines_schema() -> pa.Schema:
    """Columns of `lines` (sql/consolidate.sql)."""
    import pyarrow as pa

    return pa.schema([("record_id", pa.int64()), ("text", pa.string()), ("flaw", pa.string())])
