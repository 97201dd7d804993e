"""Definition of a record of a CSV file, and splitting a file into blocks of whole records.

A record ends at a line feed (LF) that is not within a quoted field, or at the end of the file.

* Lines end at LF and are counted by LF. One carriage return (CR) just before it, or before the end of the file,
  belongs to the line end (CRLF). Line ends may be mixed. Any other CR is data, within quotes and outside.
* A quote at the start of a field opens a quoted field, `""` in it is a quote, and the next quote closes it. Text
  between the closing quote and the comma belongs to the field. A quote elsewhere is data.
* A line whose quoted fields are all closed is a record.
* A line that ends within a quoted field is continued by the next ones. The quote that closes such a field must be
  followed by a comma or the line end, blanks aside. If not, or if the record would be longer than `RECORD_MAX_LINES` or
  `RECORD_MAX_BYTES`, or if the file ends, the quote is unclosed: only the first line is rejected, and the next line
  begins a record.
* Of a line longer than `RECORD_MAX_BYTES`, only that line is rejected.

So whether a record is accepted depends neither on its block nor on other records (docs/decisions/0019).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO, NamedTuple

from sluice.pipelines.datasets.records import Reason

RECORD_MAX_BYTES = 8 * 1024 * 1024
"""Longest record, without its line end."""

RECORD_MAX_LINES = 100

BLOCK_BYTES = 8 * 1024 * 1024

BLOCK_MAX_LINES = 200_000
"""Maximum lines of a block: bounds the memory of short records."""

STORED_BYTES = 16 * 1024
"""Bytes of a rejected record that are stored."""

_CHECKED_BYTES = 1024 * 1024
"""Bytes whose quotes are processed together."""

# Possessive throughout, so linear in the length of a line.
_QUOTED = rb'[^"]*+(?:""[^"]*+)*+'
_FIELD = rb'(?:"' + _QUOTED + rb'"[^,]*+|[^",][^,]*+|)'
_LINE = re.compile(rb"(?:" + _FIELD + rb',)*+(?P<open>"' + _QUOTED + rb"\Z)?+")
"""A line from its start, or from after the comma of a field."""

_GOES_ON = re.compile(_QUOTED + rb"\Z")
"""A line within a quoted field, from its start to its end."""

_CLOSES = re.compile(_QUOTED + rb'"[ \t]*+(?:(?P<comma>,)|\r?\Z)')

_LINE_END = re.compile(rb"\n")


class Record(NamedTuple):
    """Where one record of a block is.

    Attributes:
        line: number of its first line in the file; the header is line 1.
        start, end: its bytes in the data of the block, without the LF; only the beginning of one that is too long.
        fault: why it cannot be read: `unclosed_quote` or `record_too_long`; None if it can.
    """

    line: int
    start: int
    end: int
    fault: Reason | None = None


class Block(NamedTuple):
    """Whole records of a file.

    Attributes:
        data: their bytes; the last one of a file may have no line end.
        first_line: number of the first line in the file.
        records: their positions; None if each line is a record.
    """

    data: bytes
    first_line: int
    records: Sequence[Record] | None = None


def read_blocks(file: BinaryIO, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Blocks of about `block_bytes`, from the start of line 2; none is longer than that or two of the longest records.

    Args:
        file: at the start of line 2.
        block_bytes: read at once; more only if it does not contain a whole record.
    """
    line, rest, is_all = 2, b"", False
    wanted = block_bytes
    while True:
        if not is_all and len(rest) < wanted:
            read = file.read(wanted - len(rest))
            is_all = len(read) < wanted - len(rest)
            rest += read
        if not rest:
            return
        block, lines = _first_block(rest, line, is_all)
        if block:
            yield block
            line += lines
            rest, wanted = rest[len(block.data) :], block_bytes
        elif len(rest) <= RECORD_MAX_BYTES:
            # Twice as much, so that a record much longer than a block is scanned few times.
            wanted = max(block_bytes, 2 * len(rest))
        else:
            shown = rest[:STORED_BYTES]
            yield Block(shown, line, [Record(line, 0, len(shown), Reason.RECORD_TOO_LONG)])
            _skip_line(file)
            line, rest, wanted = line + 1, b"", block_bytes


def _skip_line(file: BinaryIO) -> None:
    """Read on to the next LF."""
    while (data := file.readline(BLOCK_BYTES)) and not data.endswith(b"\n"):
        pass


def _first_block(data: bytes, line: int, is_all: bool) -> tuple[Block | None, int]:
    """The whole records at the beginning of some bytes, and their lines; None if they contain no whole record.

    Args:
        data: from the start of a record.
        line: its number.
        is_all: whether the file ends with them.
    """
    lines = data.count(b"\n")
    if lines < BLOCK_MAX_LINES:
        end = len(data) if is_all else data.rfind(b"\n") + 1
        whole = data[:end]
        if whole and not _has_long_line(whole) and (b'"' not in whole or _each_line_is_whole(whole)):
            return Block(whole, line), lines
    return _split(data, line, is_all)


def _has_long_line(data: bytes) -> bool:
    start = 0
    while len(data) - start > RECORD_MAX_BYTES:
        newline = data.rfind(b"\n", start, start + RECORD_MAX_BYTES + 1)
        if newline < 0:
            return True
        start = newline + 1
    return False


def _each_line_is_whole(data: bytes) -> bool:
    """Whether each line is a record; False also if undecided, with quotes that neither open nor close a field."""
    import numpy as np

    start = 0
    while start < len(data):
        end = len(data)
        if end - start > _CHECKED_BYTES:
            end = data.rfind(b"\n", start, start + _CHECKED_BYTES) + 1
        found = np.frombuffer(data[start:end], np.uint8)
        quotes = np.flatnonzero(found == ord('"'))
        if not end or len(quotes) % 2:
            return False
        # If each is at the start of a field or the second of a pair, they open and close fields in turn.
        opening = quotes[::2]
        before = found[np.maximum(opening, 1) - 1]
        newlines = np.flatnonzero(found == ord("\n"))
        if not (
            np.all((before == ord(",")) | (before == ord("\n")) | (before == ord('"')) | (opening == 0))
            and not np.any(np.searchsorted(quotes, newlines) % 2)
        ):
            return False
        start = end
    return True


def _split(data: bytes, first_line: int, is_all: bool) -> tuple[Block | None, int]:
    """As `_first_block`, line by line."""
    ends = [each.start() for each in islice(_LINE_END.finditer(data), BLOCK_MAX_LINES)]
    # More data follows after these lines; the next block begins there.
    has_more_lines = len(ends) == BLOCK_MAX_LINES and ends[-1] + 1 < len(data)
    if is_all and not has_more_lines and not data.endswith(b"\n"):
        ends.append(len(data))
    records: list[Record] = []
    index = start = 0
    # The first line that may end the quoted field, and whether it does: no line is scanned for two records.
    ahead, closes = 0, None
    while index < len(ends):
        last, end, fault = index, ends[index], None
        if end - start > RECORD_MAX_BYTES:
            end, fault = min(end, start + STORED_BYTES), Reason.RECORD_TOO_LONG
        elif _is_open(data, start, ends[index]):
            if ahead <= index:
                ahead, closes = index + 1, None
            limit = min(index + RECORD_MAX_LINES, len(ends))
            while closes is None and ahead < limit and ends[ahead] - start <= RECORD_MAX_BYTES:
                closes = _closes(data, ends[ahead - 1] + 1, ends[ahead])
                ahead += closes is None
            is_cut = has_more_lines or (not is_all and len(data) - start <= RECORD_MAX_BYTES)
            if ahead == len(ends) < index + RECORD_MAX_LINES and is_cut:
                break
            if closes and ahead < limit and ends[ahead] - start <= RECORD_MAX_BYTES:
                last, end = ahead, ends[ahead]
            else:
                fault = Reason.UNCLOSED_QUOTE
        records.append(Record(first_line + index, start, end, fault))
        index, start = last + 1, ends[last] + 1
    if not records:
        return None, 0
    is_plain = len(records) == index and all(each.fault is None for each in records)
    return Block(data[:start], first_line, None if is_plain else records), index


def _is_open(data: bytes, start: int, end: int) -> bool:
    """Whether a line that begins a record ends within a quoted field."""
    if data.find(b'"', start, end) < 0:
        return False
    found = _LINE.match(data, start, end)
    return found is not None and found["open"] is not None


def _closes(data: bytes, start: int, end: int) -> bool | None:
    """Whether the quoted field in which a line begins, and its record, end in the line; None if undecided."""
    if data.find(b'"', start, end) < 0 or _GOES_ON.match(data, start, end):
        return None
    found = _CLOSES.match(data, start, end)
    if found is None:
        return False
    if found["comma"]:
        rest = _LINE.match(data, found.end(), end)
        if rest and rest["open"] is not None:
            return None
    return True
