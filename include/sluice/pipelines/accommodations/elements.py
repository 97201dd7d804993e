"""The elements of a JSON array of any size as text: the array is split by its structure, not parsed. No AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from sluice.pipelines.accommodations.json_scan import in_string, string_bounds
from sluice.pipelines.accommodations.records import MAX_BYTES, MAX_RAW_BYTES, Reason
from sluice.pipelines.accommodations.source import flawed_batch, text_batch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

WINDOW_BYTES = 512 * 1024
"""Bytes of text split at a time; more if an element is larger."""

NARROW_BYTES = 4 * 1024
"""The same after damaged text: the following text may be damaged too, and would be split again."""

BLANKS = b" \t\r\n"

_RECORD_BEGIN = re.compile(rb'\{[ \t\r\n]{0,100}"(?:partner_name|accommodation_id|accommodation_data)"')
_RECORD_BEGIN_BYTES = 200
"""Upper bound of the length of a match including the blanks before it."""


class _Structure(NamedTuple):
    """Brackets and commas of a text.

    Attributes:
        positions: of those outside of strings.
        kinds: their bytes.
        steps: +1 for an opening bracket, -1 for a closing one, 0 for a comma.
        before: open brackets before each of them. A closing bracket without an opening one changes nothing.
        after: open brackets after it.
        quoted: positions of opening braces in strings.
        is_quoted: whether the text ends in a string.
    """

    positions: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    steps: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    quoted: npt.NDArray[np.int64]
    is_quoted: bool


def _structure(text: bytes, depth: int = 0, is_quoted: bool = False) -> _Structure:
    """The structure of a text that begins at a depth, in a string or not."""
    import numpy as np

    content = np.frombuffer(text, np.uint8)
    bounds = string_bounds(content)
    found = np.flatnonzero(_structural_bytes()[content])
    within = in_string(found, bounds) ^ is_quoted
    positions, inner = found[~within], found[within]
    kinds = content[positions]
    # The bytes of { and } differ from those of [ and ] by one bit.
    steps = np.where(kinds == ord(","), 0, np.where(kinds | 0x20 == ord("{"), 1, -1))
    total = depth + np.cumsum(steps)
    after = total - np.minimum(np.minimum.accumulate(total), 0) if len(total) else total
    before = np.concatenate([np.array([depth], np.int64), after[:-1]])[: len(after)]
    quoted = inner[content[inner] == ord("{")]
    return _Structure(positions, kinds, steps, before, after, quoted, bool(len(bounds) % 2) ^ is_quoted)


def _structural_bytes() -> npt.NDArray[np.bool_]:
    import numpy as np

    table = np.zeros(256, np.bool_)
    table[list(b"{}[],")] = True
    return table


def _record_begins(text: bytes, structure: _Structure) -> Iterator[tuple[int, int | None]]:
    """Positions where a record probably begins, in strings or in brackets, in order; with the index in the structure.

    Within a string, which is never valid JSON, the index is None.
    """
    import numpy as np

    content = np.frombuffer(text, np.uint8)
    nested = np.flatnonzero((structure.kinds == ord("{")) & (structure.before > 0))
    previous = content[structure.positions[nested] - 1]
    nested = nested[(previous != ord(":")) & (previous != ord("["))]
    candidates: list[tuple[int, int | None]] = [
        *((int(position), None) for position in structure.quoted),
        *((int(structure.positions[index]), int(index)) for index in nested),
    ]
    for position, index in sorted(candidates, key=lambda each: each[0]):
        if _RECORD_BEGIN.match(text, position):
            lead = text[max(position - _RECORD_BEGIN_BYTES, 0) : position].rstrip(BLANKS)
            if lead.endswith((b",", b"}", b"]")):
                yield position, index


def _is_in_array(structure: _Structure, index: int) -> bool:
    """Whether the enclosing bracket is a square bracket of the same text."""
    import numpy as np

    before = slice(None, index)
    enclosing = (structure.after[before] == structure.before[index]) & (structure.steps[before] == 1)
    places = np.flatnonzero(enclosing)
    return bool(len(places)) and bool(structure.kinds[places[-1]] == ord("["))


class _Split(NamedTuple):
    """Elements found in a window of the text.

    Attributes:
        batch: the elements that end in it; None for none.
        used_bytes: bytes that are completely processed.
        is_damaged: an unterminated element was cut where the next one probably begins.
        is_closed: the closing bracket of the array was found.
        is_whole: the last element is terminated.
        untrusted: the file ended within an element in which a record probably begins.
    """

    batch: pa.RecordBatch | None
    used_bytes: int
    is_damaged: bool
    is_closed: bool
    is_whole: bool
    untrusted: bool = False


def element_batches(path: Path, first_record_id: int) -> Iterator[pa.RecordBatch]:
    """The elements of a JSON array as batches of `record_id`, `text` and `flaw`, in their order, as `line_batches`.

    An element ends at the comma, or the closing bracket of the array, that is in no string and no other brackets; where
    a comma is missing, before the next opening bracket. Empty text between two commas is not an element. If a string or
    a bracket is unterminated, the element is cut where the next record probably begins: at a brace and one of the three
    fields, after a comma or a closing bracket. The content of an element is not parsed.

    Args:
        path: the file; its first bytes, but for a byte order mark and blanks, are the opening bracket.
        first_record_id: number of the first element.
    """
    number = first_record_id
    size_bytes = path.stat().st_size
    window_bytes = WINDOW_BYTES
    # In the text before it, a record begins at every probable position.
    distrusted_end = 0
    is_closed, is_whole = False, True
    with path.open("rb") as file:
        at = file.read(MAX_BYTES).index(b"[") + 1
        while at < size_bytes:
            file.seek(at)
            text = file.read(window_bytes)
            is_last = at + len(text) >= size_bytes
            found = _split(text, number, is_last=is_last, distrusted_bytes=distrusted_end - at)
            if found.untrusted:
                distrusted_end = size_bytes
                continue
            if not found.used_bytes and len(text) > MAX_RAW_BYTES:
                end, is_whole = _long_end(file, at, distrusted_end)
                if not is_whole and end < size_bytes:
                    distrusted_end = size_bytes
                yield _long_batch(file, at, end, number)
                number += 1
                at = end
                window_bytes = NARROW_BYTES
                continue
            if found.batch is not None:
                yield found.batch
                number += found.batch.num_rows
            at += found.used_bytes
            is_closed |= found.is_closed
            is_whole = found.is_whole
            if found.is_damaged:
                window_bytes = NARROW_BYTES
            elif not found.used_bytes:
                window_bytes = min(2 * window_bytes, MAX_RAW_BYTES + 1)
            else:
                window_bytes = min(2 * window_bytes, max(window_bytes, WINDOW_BYTES))
    if is_whole and not is_closed and not _ends_closed(path):
        yield flawed_batch([(b"", Reason.CUT_OFF)], number)


def _ends_closed(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - MAX_BYTES, 0))
        return file.read().rstrip(BLANKS).endswith(b"]")


def _split(text: bytes, number: int, *, is_last: bool, distrusted_bytes: int) -> _Split:
    """Split a text that begins between two elements.

    Args:
        text: the text.
        number: of its first element.
        is_last: the file ends with it.
        distrusted_bytes: within these first bytes, a record begins at every probable position.
    """
    import numpy as np

    structure = _structure(text)
    trusted = []
    for position, index in _record_begins(text, structure):
        if index is None or position < distrusted_bytes or not _is_in_array(structure, index):
            before = text[:position].rstrip(BLANKS).removesuffix(b",")
            batch, _, is_closed = _elements(before, _structure(before), number, is_last=True)
            return _Split(batch, position, is_damaged=True, is_closed=is_closed, is_whole=True)
        trusted.append(position)
    is_whole = not structure.is_quoted and not (len(structure.after) and structure.after[-1])
    if is_last and not is_whole and trusted:
        opened = structure.positions[np.flatnonzero(structure.before == 0)[-1]]
        if trusted[-1] > opened:
            return _Split(None, 0, is_damaged=True, is_closed=False, is_whole=False, untrusted=True)
    batch, used_bytes, is_closed = _elements(text, structure, number, is_last=is_last)
    return _Split(batch, used_bytes, is_damaged=False, is_closed=is_closed, is_whole=is_whole)


def _elements(
    text: bytes, structure: _Structure, number: int, *, is_last: bool
) -> tuple[pa.RecordBatch | None, int, bool]:
    """Elements of a text, their size in bytes, and whether they include the end of the array."""
    import numpy as np

    positions, kinds, steps, before, after, *_ = structure
    is_end = (before == 0) & (kinds == ord("]"))
    separators = positions[((after == 0) & (steps == 0)) | is_end]
    opens = positions[(before == 0) & (steps == 1)]
    closes = positions[(before == 1) & (after == 0)]
    # If brackets open twice between two commas, a comma is missing.
    regions = np.searchsorted(separators, opens)
    is_second = np.diff(regions, prepend=-1) == 0
    is_first = np.append(is_second[1:], np.False_)
    begins = [np.zeros(1, np.int64), separators + 1]
    if is_second.any():
        begins += [opens[is_second | is_first], closes[(is_second | is_first)[: len(closes)]] + 1]
    cuts = np.unique(np.concatenate(begins))
    if is_last:
        used_bytes = len(text)
    else:
        used_bytes = int(separators[-1]) + 1 if len(separators) else 0
        if len(opens) and is_second[-1]:
            used_bytes = int(opens[-1])
        cuts = cuts[cuts < used_bytes]
    # Between most cuts a bracket opens; other text than blanks is rare.
    ends = np.append(cuts[1:], used_bytes)
    is_filled = np.searchsorted(opens, cuts) < np.searchsorted(opens, ends)
    content = np.frombuffer(text, np.uint8).copy()
    content[separators] = ord(" ")
    blanked = content.tobytes()
    for index in np.flatnonzero(~is_filled).tolist():
        is_filled[index] = bool(blanked[cuts[index] : ends[index]].strip(BLANKS))
    offsets = np.append(cuts[is_filled], used_bytes)
    if len(offsets) == 1:
        return None, used_bytes, bool(is_end.any())
    return text_batch(blanked, offsets.astype(np.int32), number), used_bytes, bool(is_end.any())


def _long_end(file: BinaryIO, at: int, distrusted_end: int) -> tuple[int, bool]:
    """End of an element of any length; and whether it is terminated, or cut where the next one probably begins."""
    import numpy as np

    depth, is_quoted = 0, False
    begin: int | None = None
    while True:
        file.seek(at)
        text = file.read(WINDOW_BYTES + _RECORD_BEGIN_BYTES)
        if not text:
            return (at, False) if begin is None else (begin, False)
        scanned = text[:WINDOW_BYTES] if len(text) > WINDOW_BYTES else text
        backslashes = len(scanned) - len(scanned.rstrip(b"\\"))
        # The last backslash escapes the next character.
        if backslashes % 2 and len(scanned) > 1:
            scanned = scanned[:-1]
        structure = _structure(scanned, depth, is_quoted)
        is_separator = (structure.steps == 0) | ((structure.before == 0) & (structure.kinds == ord("]")))
        ends = np.flatnonzero((structure.after == 0) & (is_separator | (structure.before == 1)))
        end = int(structure.positions[ends[0]]) if len(ends) else len(text)
        for position, index in _record_begins(text, structure):
            if position > end:
                break
            if index is None or at + position < distrusted_end:
                return at + position, False
            begin = at + position if begin is None else begin
        if len(ends):
            is_close = structure.before[ends[0]] == 1
            return at + end + int(is_close), True
        at += len(scanned)
        depth = int(structure.after[-1]) if len(structure.after) else depth
        is_quoted = structure.is_quoted


def _long_batch(file: BinaryIO, begin: int, end: int, number: int) -> pa.RecordBatch:
    import numpy as np

    file.seek(begin)
    if end - begin > MAX_RAW_BYTES:
        return flawed_batch([(file.read(MAX_BYTES), Reason.TOO_LARGE)], number)
    text = file.read(end - begin).rstrip(BLANKS).removesuffix(b",")
    return text_batch(text, np.array([0, len(text)], np.int32), number)
