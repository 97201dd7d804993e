"""Parses the records of a CSV file; a bad record does not affect the others.

A block in which each line is a record is parsed by Arrow; any other one record by record. Both use the definition of a
record in `sluice.pipelines.datasets.framing`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.datasets.formats import other_format
from sluice.pipelines.datasets.framing import RECORD_MAX_BYTES, RECORD_MAX_LINES, STORED_BYTES, Block, Record
from sluice.pipelines.datasets.records import COLUMNS, USED_COLUMNS, Reason

if TYPE_CHECKING:
    import pyarrow as pa

HEADER_MAX_BYTES = 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_UTF_16_OR_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


class RejectedRow(NamedTuple):
    """A rejected record, identified by its first line."""

    line: int
    reason: Reason
    detail: str
    record: str


@dataclass
class ParsedBlock:
    """Records of one block. The table may contain blank ones, see `is_blank`.

    Attributes:
        table: `line` (int64) and `USED_COLUMNS` as text.
        rejected: rejected records by line, which are not in the table.
    """

    table: pa.Table
    rejected: list[RejectedRow] = field(default_factory=list)


def read_header(file: BinaryIO) -> list[str]:
    """The columns of a file in their order; the file position is then the start of line 2.

    Raises:
        RejectedRecord: the whole file cannot be read; reason `empty_file`, `not_csv`, `not_utf8` or `wrong_header`.
    """
    line = file.readline(HEADER_MAX_BYTES)
    _check_format(line)
    if not line.removeprefix(_BOM).strip():
        rest = file.read(HEADER_MAX_BYTES)
        if rest.strip():
            raise RejectedRecord(Reason.WRONG_HEADER, f"line 1 is empty: it must name {', '.join(COLUMNS)}")
        raise RejectedRecord(Reason.EMPTY_FILE, "the file is empty, without a header")
    try:
        text = line.removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        raise RejectedRecord(Reason.NOT_UTF8, "line 1 is not UTF-8: save the file as UTF-8") from None
    if "\r" in text.rstrip("\r\n"):
        raise RejectedRecord(Reason.WRONG_HEADER, "line 1 holds a bare CR: save the file with line ends LF or CRLF")
    try:
        names = next(csv.reader([text.rstrip("\r\n")], strict=True))
    except csv.Error as error:
        raise RejectedRecord(Reason.WRONG_HEADER, f"line 1 is not CSV: {error}") from None
    if sorted(names) != sorted(COLUMNS):
        raise RejectedRecord(Reason.WRONG_HEADER, _difference(names))
    return names


def _check_format(start: bytes) -> None:
    name = other_format(start)
    if name:
        raise RejectedRecord(Reason.NOT_CSV, f"the file is {name}, not CSV")
    if start.startswith(_UTF_16_OR_32):
        raise RejectedRecord(Reason.NOT_UTF8, "the file is UTF-16 or UTF-32: save it as UTF-8")
    if b"\0" in start:
        raise RejectedRecord(
            Reason.NOT_UTF8, "line 1 holds NUL bytes: the file is binary, or UTF-16 without a byte order mark"
        )


def _difference(names: Sequence[str]) -> str:
    missing = [name for name in COLUMNS if name not in names]
    further = [name for name in dict.fromkeys(names) if name not in COLUMNS]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1 and name in COLUMNS]
    parts = [
        f"{what} {', '.join(repr(name[:40]) for name in found[:10])}"
        for what, found in (("lacks", missing), ("has unknown columns", further), ("has twice", repeated))
        if found
    ]
    return f"line 1 must name {', '.join(COLUMNS)}; it {' and '.join(parts)}"


def parse_block(block: Block, names: Sequence[str]) -> ParsedBlock:
    """The records of a block, each with the number of its first line."""
    parsed = None
    if block.records is None and _is_for_arrow(block.data):
        parsed = _parse_lines(block, names)
    return parsed or _parse_records(block, names)


def _is_for_arrow(data: bytes) -> bool:
    """Whether Arrow splits a block into the same records.

    For Arrow a bare CR ends a row, and a byte order mark is not part of the first field.
    """
    if data.startswith(_BOM) or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n")):
        return False
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_lines(block: Block, names: Sequence[str]) -> ParsedBlock | None:
    """Parse a block in which each line is a record; None if Arrow finds other rows."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    lines = block.data.count(b"\n") + (not block.data.endswith(b"\n"))
    wrong: list[tuple[int, int]] = []

    def note(row: arrow_csv.InvalidRow) -> str:
        wrong.append((block.first_line + row.number - 1, row.actual_columns))
        return "skip"

    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(block.data),
            # In one piece, as rows are numbered consecutively.
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(block.data) + 1),
            parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=note),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=USED_COLUMNS, column_types=dict.fromkeys(USED_COLUMNS, pa.string())
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows + len(wrong) != lines:
        return None
    numbers = np.arange(block.first_line, block.first_line + lines)
    rejected: list[RejectedRow] = []
    if wrong:
        numbers = np.delete(numbers, [line - block.first_line for line, _ in wrong])
        records = records_at(block, [line for line, _ in wrong])
        rejected = [
            _wrong_count(line, count, record)
            for (line, count), record in zip(wrong, records, strict=True)
            if not is_blank(record)
        ]
    return ParsedBlock(table.add_column(0, "line", pa.array(numbers)), rejected)


def _parse_records(block: Block, names: Sequence[str]) -> ParsedBlock:
    """Parse record by record: multi-line quoted fields, unclosed quotes, bytes that are not UTF-8."""
    lines: list[int] = []
    rows: list[list[str]] = []
    rejected: list[RejectedRow] = []
    for line, start, end, fault in block.records or _lines_of(block):
        record = block.data[start:end]
        if fault == Reason.RECORD_TOO_LONG:
            rejected.append(RejectedRow(line, fault, _FAULTS[fault], beginning_text(record)))
            continue
        record = _without_cr(record)
        if fault:
            rejected.append(RejectedRow(line, fault, _FAULTS[fault], beginning_text(record)))
            continue
        if is_blank(record):
            continue
        try:
            fields = _fields(record.decode())
        except UnicodeDecodeError as error:
            detail = f"byte {error.start + 1} of the record is not UTF-8"
            rejected.append(RejectedRow(line, Reason.BAD_ENCODING, detail, beginning_text(record)))
            continue
        if len(fields) == len(names):
            lines.append(line)
            rows.append(fields)
        else:
            rejected.append(_wrong_count(line, len(fields), record))
    return ParsedBlock(_table(lines, rows, names), rejected)


_FAULTS = {
    Reason.UNCLOSED_QUOTE: f"a quote is not closed, before a comma or a line end, within {RECORD_MAX_LINES} lines and"
    f" {RECORD_MAX_BYTES} bytes",
    Reason.RECORD_TOO_LONG: f"the line is longer than {RECORD_MAX_BYTES} bytes; only its beginning is stored",
}


def _lines_of(block: Block) -> Iterator[Record]:
    """The records of a block in which each line is one."""
    start = 0
    for number, line in enumerate(block.data.removesuffix(b"\n").split(b"\n"), block.first_line):
        yield Record(number, start, start + len(line))
        start += len(line) + 1


def _without_cr(record: bytes) -> bytes:
    return record.removesuffix(b"\r")


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


_FIELD = re.compile(r'("[^"]*+(?:""[^"]*+)*+")?+([^,]*+)')


def _wrong_count(line: int, count: int, record: bytes) -> RejectedRow:
    detail = f"the row has {count} fields, not {len(COLUMNS)}"
    return RejectedRow(line, Reason.WRONG_COLUMN_COUNT, detail, beginning_text(record))


def _table(lines: list[int], rows: list[list[str]], names: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    arrays = [pa.array(columns[name], pa.string()) for name in USED_COLUMNS]
    return pa.table([pa.array(lines, pa.int64()), *arrays], names=["line", *USED_COLUMNS])


def is_blank(record: bytes) -> bool:
    """Whether a row is blank: an empty line, or an empty row of a spreadsheet. It does not count as a record."""
    return not record.strip(b", \t\r\n")


def beginning_text(record: bytes) -> str:
    """The beginning of a record as text, for the quarantine."""
    return record[:STORED_BYTES].decode("utf-8", "replace")


def records_at(block: Block, lines: Sequence[int]) -> list[bytes]:
    """The records of a block that begin at some of its lines, as received but for the line end."""
    import numpy as np

    if block.records is not None:
        found = {each.line: block.data[each.start : each.end] for each in block.records}
        return [_without_cr(found[line]) for line in lines]
    ends = np.append(np.flatnonzero(np.frombuffer(block.data, np.uint8) == ord("\n")), len(block.data))
    places = np.array(lines, np.int64) - block.first_line
    starts = np.where(places, ends[places - 1] + 1, 0)
    return [
        _without_cr(block.data[start:end]) for start, end in zip(starts.tolist(), ends[places].tolist(), strict=True)
    ]
