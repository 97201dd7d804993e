"""Reads a partner's file of any size, line by line or as one JSON array, as untrusted input. No AWS."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from sluice.pipelines.accommodations.records import MAX_BYTES, MAX_RAW_BYTES, Flaw, Reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

BLOCK_BYTES = 4 * 1024 * 1024
"""Bytes read at a time."""

BOM = b"\xef\xbb\xbf"


class UnreadableFile(ValueError):
    """A file cannot be read.

    Attributes:
        flaw: the reason.
    """

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.detail)
        self.flaw = flaw


def detect_format(path: Path) -> Literal["lines", "array"]:
    """Whether a file is JSON Lines or one JSON array.

    A file that begins with `[` is an array, unless its first line is an array without objects, and other lines follow.

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
        if not newline or not first.rstrip().endswith(b"]") or b"{" in first:
            return "array"
        follows = _first_text(rest, file)
        # Otherwise the line ends within the array.
        return "lines" if follows and not follows.startswith((b",", b"]")) else "array"


def _first_text(block: bytes, file: BinaryIO) -> bytes:
    while block and not block.strip():
        block = file.read(BLOCK_BYTES)
    return block.lstrip()


def line_batches(path: Path, first_record_id: int) -> Iterator[pa.RecordBatch]:
    """The lines of a file as batches of `record_id`, `text` and `flaw`, in their order.

    The content of lines is not validated; a line that is not UTF-8 or longer than `MAX_RAW_BYTES` has the reason in
    `flaw`, and its printable beginning in `text`. At most one line and two blocks are in memory.

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
                batch = _line_batch(rest[:end], number)
                yield batch
                number += batch.num_rows
                rest = rest[end:]
            elif len(rest) > MAX_RAW_BYTES:
                yield flawed_batch([(rest[:MAX_BYTES], Reason.TOO_LARGE)], number)
                number += 1
                rest = _after_line(file)
    if rest:
        yield _line_batch(rest if rest.endswith(b"\n") else rest + b"\n", number)


def _after_line(file: BinaryIO) -> bytes:
    """Skip the rest of a line of any length; returns the bytes read after it."""
    while block := file.read(BLOCK_BYTES):
        _, newline, behind = block.partition(b"\n")
        if newline:
            return behind
    return b""


def _line_batch(lines: bytes, number: int) -> pa.RecordBatch:
    """One batch of complete lines, their newlines included."""
    import numpy as np

    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")).astype(np.int32) + 1
    return text_batch(lines, np.concatenate([np.zeros(1, np.int32), ends]), number)


def text_batch(content: bytes, offsets: npt.NDArray[np.int32], number: int) -> pa.RecordBatch:
    """One batch of the parts of a text; without a copy unless one of them is flawed.

    Args:
        content: the text.
        offsets: where each part begins, and where the last one ends.
        number: of the first part.
    """
    import numpy as np
    import pyarrow as pa

    rows = len(offsets) - 1
    text = pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(content))
    if np.diff(offsets).max() - 1 > MAX_RAW_BYTES or not _is_utf8(text):
        parts = (content[begin:end].removesuffix(b"\n") for begin, end in pairwise(offsets.tolist()))
        return flawed_batch([_checked(part) for part in parts], number)
    numbers = pa.array(np.arange(number, number + rows))
    return pa.record_batch([numbers, text, pa.nulls(rows, pa.string())], schema=lines_schema())


def _is_utf8(text: pa.StringArray) -> bool:
    import pyarrow as pa

    try:
        # Ten times faster than decoding it.
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


def flawed_batch(lines: list[tuple[bytes, Reason | None]], number: int) -> pa.RecordBatch:
    """One batch of parts of a text, each with its flaw."""
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
