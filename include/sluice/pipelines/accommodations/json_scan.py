"""Vectorized search for the strings and numbers of JSON text, for many records at once. No AWS."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

SCANNED_BYTES = 256 * 1024
"""Approximate bytes of text scanned together: derived arrays fit the processor's cache."""


def string_bounds(content: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Positions of the quotes that begin or end a string, in turn: all that are not escaped."""
    import numpy as np

    quotes = np.flatnonzero(content == ord('"'))
    backslashes = np.flatnonzero(content == ord("\\"))
    if not len(backslashes):
        return quotes
    begins_run = np.diff(backslashes, prepend=-2) != 1
    run_begins = np.maximum.accumulate(np.where(begins_run, backslashes, 0))
    is_escaped = np.zeros(len(content) + 1, np.bool_)
    # Of each two backslashes the first escapes the second.
    is_escaped[backslashes[(backslashes - run_begins) % 2 == 0] + 1] = True
    return quotes[~is_escaped[quotes]]


def in_string(positions: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which positions lie within a string.

    Args:
        positions: none of them that of a quote.
        bounds: of `string_bounds`.
    """
    import numpy as np

    within: npt.NDArray[np.bool_] = np.searchsorted(bounds, positions) % 2 == 1
    return within


def quote_numbers(texts: pa.Array | pa.ChunkedArray, marks: pa.Array | pa.ChunkedArray) -> pa.Array:
    """JSON with each number replaced by a string: its digits as spelled, between two marks.

    Args:
        texts: valid JSON.
        marks: for each text, the mark around its numbers; without quotes and lone backslashes.
    """
    import numpy as np
    import pyarrow as pa

    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    array = array.cast(pa.string())
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    content = memoryview(array.buffers()[2])
    mark_bytes = [mark.encode() for mark in marks.to_pylist()]
    quoted: list[bytes] = []
    added_bytes = np.zeros(len(array) + 1, np.int64)
    first = 0
    while first < len(array):
        last = max(int(np.searchsorted(offsets, offsets[first] + SCANNED_BYTES, "right")) - 1, first + 1)
        scanned = content[offsets[first] : offsets[last]]
        begins, ends = _number_bounds(np.frombuffer(scanned, np.uint8))
        rows = np.searchsorted(offsets[first + 1 : last] - offsets[first], begins, "right")
        parts: list[bytes | memoryview] = []
        at = 0
        for begin, end, row in zip(begins.tolist(), ends.tolist(), rows.tolist(), strict=True):
            mark = mark_bytes[first + row]
            parts += (scanned[at:begin], b'"' + mark, scanned[begin:end], mark + b'"')
            at = end
        quoted.append(b"".join([*parts, scanned[at:]]))
        mark_lengths = np.array([len(mark) for mark in mark_bytes[first:last]], np.int64)
        added_bytes[first + 1 : last + 1] = np.bincount(rows, minlength=last - first) * (2 * mark_lengths + 2)
        first = last
    new_offsets = offsets - offsets[0] + np.cumsum(added_bytes)
    return pa.LargeStringArray.from_buffers(len(array), pa.py_buffer(new_offsets), pa.py_buffer(b"".join(quoted)))


def _number_bounds(content: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    import numpy as np

    is_part = _number_bytes()[content]
    edges = np.flatnonzero(np.diff(is_part, prepend=np.False_, append=np.False_))
    begins, ends = edges[::2], edges[1::2]
    # Else it is the `e` of true or false.
    is_number = (content[begins] <= ord("9")) & ~in_string(begins, string_bounds(content))
    return begins[is_number], ends[is_number]


@cache
def _number_bytes() -> npt.NDArray[np.bool_]:
    import numpy as np

    table = np.zeros(256, np.bool_)
    table[list(b"-+.0123456789eE")] = True
    return table
