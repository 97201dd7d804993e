"""A CSV file as blocks of numbered records, whatever is in it: one bad line is given up alone.

A block is whole lines. One in which every line is a record is parsed by Arrow; any other one record by record.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from sluice.datasets.records import COLUMNS, USED_COLUMNS, Reason
from sluice.quarantine import RejectedRecord

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 8 * 1024 * 1024

RECORD_MAX_BYTES = 1024 * 1024
"""A quote is closed within so many bytes, and so many lines, or it is none."""

RECORD_MAX_LINES = 100

SHOWN_BYTES = 16 * 1024
"""Beginning of a record that is kept when it is rejected."""

_BOM = b"\xef\xbb\xbf"
_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip (also xlsx)",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"PAR1": "parquet",
}
_UTF_16_OR_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")

_WHOLE_RECORD = re.compile(rb'(?:"(?>[^"]+|"")*+"[^,]*+|[^",][^,]*+|)(?:,(?:"(?>[^"]+|"")*+"[^,]*+|[^",][^,]*+|))*+')
"""A record whose quotes are all closed. Quotes count at the start of a field only; elsewhere they are as they are."""


class Block(NamedTuple):
    """Whole lines of a file.

    Attributes:
        data: the lines; the last one of a file may have no newline.
        first_line: number of the first one in the file; the header is line 1.
        too_long: the line of this block was too long, and `data` is only its beginning.
    """

    data: bytes
    first_line: int
    too_long: bool = False


class RejectedLine(NamedTuple):
    """A record that could not be read at all, at its first line."""

    line: int
    reason: Reason
    detail: str
    record: str


@dataclass
class ParsedBlock:
    """Records of one block.

    Attributes:
        table: `line` (int64) and `USED_COLUMNS` as text.
        rejected: records that are not in the table, by line.
    """

    table: pa.Table
    rejected: list[RejectedLine] = field(default_factory=list)


def read_header(file: BinaryIO) -> list[str]:
    """The columns of a file in their order; leaves the file at the start of line 2.

    Raises:
        RejectedRecord: the whole file cannot be read; reason `empty_file`, `not_csv`, `not_utf8` or `wrong_header`.
    """
    line = file.readline(RECORD_MAX_BYTES)
    _check_format(line)
    if not line.removeprefix(_BOM).strip():
        rest = file.read(RECORD_MAX_BYTES)
        if rest.strip():
            raise RejectedRecord(Reason.WRONG_HEADER, f"line 1 is empty: it must name {', '.join(COLUMNS)}")
        raise RejectedRecord(Reason.EMPTY_FILE, "the file is empty: not even a header")
    try:
        text = line.removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        raise RejectedRecord(Reason.NOT_UTF8, "line 1 is not UTF-8: save the file as UTF-8") from None
    try:
        names = next(csv.reader([text.rstrip("\r\n")], strict=True))
    except csv.Error as error:
        raise RejectedRecord(Reason.WRONG_HEADER, f"line 1 is no CSV: {error}") from None
    if sorted(names) != sorted(COLUMNS):
        raise RejectedRecord(Reason.WRONG_HEADER, _difference(names))
    return names


def _check_format(start: bytes) -> None:
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise RejectedRecord(Reason.NOT_CSV, f"the file is {name} and not CSV, whatever its name says")
    if start.startswith(_UTF_16_OR_32):
        raise RejectedRecord(Reason.NOT_UTF8, "the file is UTF-16 or UTF-32: save it as UTF-8")
    if b"\0" in start:
        raise RejectedRecord(Reason.NOT_UTF8, "line 1 holds NUL bytes: the file is binary, or UTF-16 without its mark")


def _difference(names: Sequence[str]) -> str:
    missing = [name for name in COLUMNS if name not in names]
    further = [name for name in dict.fromkeys(names) if name not in COLUMNS]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1 and name in COLUMNS]
    parts = [
        f"{what} {', '.join(repr(name[:40]) for name in found[:10])}"
        for what, found in (("lacks", missing), ("has beside them", further), ("has twice", repeated))
        if found
    ]
    return f"line 1 must name {', '.join(COLUMNS)}; it {' and '.join(parts)}"


def read_blocks(file: BinaryIO, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Blocks from where the file is, which is the start of line 2; none is longer than two and two records."""
    line = 2
    rest = b""
    while data := rest + file.read(block_bytes):
        end = data.rfind(b"\n") + 1
        if not end and len(data) < block_bytes:
            end = len(data)
        if not end:
            yield Block(data[:SHOWN_BYTES], line, too_long=True)
            _skip_line(file)
            line, rest = line + 1, b""
            continue
        data, rest = data[:end], data[end:]
        if data.count(b'"') % 2:
            # A quoted field goes on in the next block, or a quote is never closed.
            data, rest = _close_quote(data, rest, file)
        yield Block(data, line)
        line += data.count(b"\n")


def _close_quote(data: bytes, rest: bytes, file: BinaryIO) -> tuple[bytes, bytes]:
    """Take in the lines up to the next quote, unless it is too far off."""
    ahead = rest + file.read(RECORD_MAX_BYTES)
    is_all = len(ahead) - len(rest) < RECORD_MAX_BYTES
    end, quotes = 0, 0
    for _ in range(RECORD_MAX_LINES):
        newline = ahead.find(b"\n", end)
        if newline < 0 and not is_all:
            break
        start, end = end, newline + 1 if newline >= 0 else len(ahead)
        quotes += ahead.count(b'"', start, end)
        if quotes % 2:
            return data + ahead[:end], ahead[end:]
    return data, ahead


def _skip_line(file: BinaryIO) -> None:
    """Read on behind the next newline."""
    while (data := file.readline(BLOCK_BYTES)) and not data.endswith(b"\n"):
        pass


def parse_block(block: Block, names: Sequence[str]) -> ParsedBlock:
    """The records of a block, each with the number of its first line."""
    if block.too_long:
        rejected = RejectedLine(
            block.first_line,
            Reason.RECORD_TOO_LONG,
            f"the line is longer than {BLOCK_BYTES} bytes; only its beginning is kept",
            _text(block.data),
        )
        return ParsedBlock(_table([], [], names), [rejected])
    if block.data.count(b'"') % 2 == 0:
        parsed = _parse_lines(block, names)
        if parsed:
            return parsed
    return _parse_records(block, names)


def _parse_lines(block: Block, names: Sequence[str]) -> ParsedBlock | None:
    """Parse a block in which every line is one record; None where it turns out otherwise, or is not UTF-8."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if not _is_utf8(block.data):
        return None
    lines = block.data.count(b"\n") + (not block.data.endswith(b"\n"))
    rejected: list[RejectedLine] = []

    def reject(row: arrow_csv.InvalidRow) -> str:
        rejected.append(_wrong_count(block.first_line + row.number - 1, row.actual_columns, row.text))
        return "skip"

    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(block.data),
            # In one piece: rows are numbered through it.
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(block.data) + 1),
            parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=reject),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=USED_COLUMNS, column_types=dict.fromkeys(USED_COLUMNS, pa.string())
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows + len(rejected) != lines:
        return None
    numbers = np.arange(block.first_line, block.first_line + lines)
    if rejected:
        numbers = np.delete(numbers, [each.line - block.first_line for each in rejected])
    return ParsedBlock(table.add_column(0, "line", pa.array(numbers)), rejected)


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_records(block: Block, names: Sequence[str]) -> ParsedBlock:
    """Parse record by record: quoted fields over several lines, quotes never closed, bytes that are no text."""
    lines: list[int] = []
    rows: list[list[str]] = []
    rejected: list[RejectedLine] = []
    physical = block.data.removesuffix(b"\n").split(b"\n")
    index = 0
    while index < len(physical):
        number = block.first_line + index
        taken, record = _next_record(physical, index)
        index += taken
        if record is None:
            detail = f"a quote is not closed within {RECORD_MAX_LINES} lines and {RECORD_MAX_BYTES} bytes"
            rejected.append(RejectedLine(number, Reason.UNCLOSED_QUOTE, detail, _text(physical[index - 1])))
            continue
        try:
            fields = _fields(record.decode())
        except UnicodeDecodeError as error:
            detail = f"byte {error.start + 1} of the record is not UTF-8"
            rejected.append(RejectedLine(number, Reason.BAD_ENCODING, detail, _text(record)))
            continue
        if len(fields) == len(names):
            lines.append(number)
            rows.append(fields)
        else:
            rejected.append(_wrong_count(number, len(fields), _text(record)))
    return ParsedBlock(_table(lines, rows, names), rejected)


def _next_record(lines: Sequence[bytes], index: int) -> tuple[int, bytes | None]:
    """How many lines the record takes that begins at a line, and its bytes; None where a quote is not closed."""
    record = lines[index]
    size = len(record)
    if b'"' not in record or _WHOLE_RECORD.fullmatch(record):
        return 1, record.removesuffix(b"\r")
    for taken in range(2, RECORD_MAX_LINES + 1):
        if index + taken > len(lines):
            break
        following = lines[index + taken - 1]
        size += len(following) + 1
        if size > RECORD_MAX_BYTES:
            break
        # Only a line with a quote can close the field.
        if b'"' in following:
            record = b"\n".join(lines[index : index + taken])
            if _WHOLE_RECORD.fullmatch(record):
                return taken, record.removesuffix(b"\r")
    return 1, None


def _fields(record: str) -> list[str]:
    """The fields of one whole record."""
    if '"' not in record:
        return record.split(",")
    fields, start = [], 0
    while start <= len(record):
        match = _FIELD.match(record, start)
        assert match is not None
        quoted, plain = match.groups()
        fields.append(plain if quoted is None else quoted[1:-1].replace('""', '"') + plain)
        start = match.end() + 1
    return fields


_FIELD = re.compile(r'("(?>[^"]+|"")*+")?+([^,]*+)')


def _wrong_count(line: int, count: int, record: str) -> RejectedLine:
    detail = f"the row has {count} fields, not {len(COLUMNS)}"
    return RejectedLine(line, Reason.WRONG_COLUMN_COUNT, detail, record[:SHOWN_BYTES])


def _table(lines: list[int], rows: list[list[str]], names: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    arrays = [pa.array(columns[name], pa.string()) for name in USED_COLUMNS]
    return pa.table([pa.array(lines, pa.int64()), *arrays], names=["line", *USED_COLUMNS])


def _text(data: bytes) -> str:
    return data[:SHOWN_BYTES].removesuffix(b"\r").decode("utf-8", "replace")


def records_at(block: Block, lines: Sequence[int]) -> list[str]:
    """The records of a block that begin at some of its lines, as received."""
    import numpy as np

    ends = np.flatnonzero(np.frombuffer(block.data, np.uint8) == ord("\n"))
    starts = np.concatenate(([0], ends + 1))
    wanted = np.array(lines) - block.first_line
    # Lines enough for any record, in which it is looked for as when it was parsed.
    return [_record_at(block.data, starts, index) for index in wanted.tolist()]


def _record_at(data: bytes, starts: Any, index: int) -> str:
    def end(behind: int) -> int:
        return starts[behind] - 1 if behind < len(starts) else len(data)

    line = data[starts[index] : end(index + 1)]
    if b'"' not in line:
        return _text(line)
    physical = data[starts[index] : end(index + RECORD_MAX_LINES)].split(b"\n")
    return _text(_next_record(physical, 0)[1] or line)
