"""Reading partners' files of any content and size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.pipelines.accommodations import source
from sluice.pipelines.accommodations.records import Flaw
from sluice.pipelines.accommodations.source import UnreadableFile, detect_format, line_batches

LINES = [b"", b"x", b"\xff", "é".encode(), b"\r", b"y" * 30, b"z" * 41, b"w" * 90]


def read(path: Path) -> list[tuple[int, str, str | None]]:
    rows: list[tuple[int, str, str | None]] = []
    for batch in line_batches(path, 7):
        batch.validate(full=True)
        rows += zip(*batch.to_pydict().values(), strict=True)
    return rows


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([b"", b"x", b"\xff", "é".encode(), b"\r", b"y" * 30, b"z" * 41, b"w" * 90])), st.booleans()
)
def test_every_line_is_read_once_with_its_number_in_any_blocks(lines: list[bytes], is_ended: bool) -> None:
    body = b"\n".join(lines) + (b"\n" if is_ended and lines else b"")
    expected = body.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "BLOCK_BYTES", 64)
        patch.setattr(source, "MAX_BYTES", 40)
        patch.setattr(source, "MAX_RAW_BYTES", 40)
        path = Path(folder) / "file"
        path.write_bytes(body)
        rows = read(path)
    assert [number for number, _, _ in rows] == list(range(7, 7 + len(expected)))
    for (_, text, flaw), line in zip(rows, expected, strict=True):
        if len(line) > 40:
            assert (flaw, text.rstrip("\n")) == ("too_large", line[:40].decode())
        elif line == b"\xff":
            assert (flaw, text) == ("not_utf8", "\\xff")
        else:
            assert (flaw, text.rstrip("\n")) == (None, line.decode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "lines"),
        (b'{"a": 1}\n', "lines"),
        (b"[]", "array"),
        (b"\xef\xbb\xbf \r\n [\n{}]", "array"),
        (b'[1]\n{"a": 1}\n', "lines"),
        (b"[1]\n \n", "array"),
        (b'[{"a": 1},\n{"a": 2}]', "array"),
        (b'[{"a": 1}]\n{"a": 2}\n', "array"),
        (b'[NaN]\n{"a": 1}\n', "lines"),
        (b'[[1],[2]\n,{"a": 1}]', "array"),
    ],
)
def test_an_array_is_distinguished_from_lines(tmp_path: Path, body: bytes, expected: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(body)
    assert detect_format(path) == expected


@pytest.mark.parametrize(
    ("body", "flaw"), [(b"\x1f\x8b\x08", Flaw.COMPRESSED), ("[]".encode("utf-16"), Flaw.UTF16)], ids=["gzip", "utf16"]
)
def test_what_is_no_text_says_what_to_do(tmp_path: Path, body: bytes, flaw: Flaw) -> None:
    path = tmp_path / "file"
    path.write_bytes(body)
    with pytest.raises(UnreadableFile, match=r"upload it uncompressed|write it as UTF-8") as raised:
        detect_format(path)
    assert raised.value.flaw == flaw


PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from sluice.pipelines.accommodations.records import PartnerFile
from sluice.pipelines.accommodations.transform import consolidate_batch, consolidation, read_files

path, folder = Path(sys.argv[1]), Path(sys.argv[2])
file = PartnerFile("b", "k", "v", datetime(2026, 11, 21, tzinfo=UTC), 0)
with consolidation(folder / "work", 512) as connection:
    read_files(connection, folder / "work", {0: (file, path)})
    result = consolidate_batch(connection, ["A"], [], folder / "out")
# Not ru_maxrss: Linux counts the memory of the parent to it.
(peak_kb,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(result.counts["published"], result.rejected, int(peak_kb) // 1024)
"""


@pytest.mark.parametrize("is_array", [False, True], ids=["lines", "array"])
def test_a_record_of_50_mb_is_quarantined_in_bounded_memory_alone(tmp_path: Path, is_array: bool) -> None:
    good = [{"partner_name": "A", "accommodation_id": str(number), "accommodation_data": {}} for number in range(2)]
    texts = [json.dumps(good[0]), json.dumps(good[0] | {"more": "x" * 50_000_000}), json.dumps(good[1])]
    path = tmp_path / "file"
    path.write_text("[" + ",".join(texts) + "]" if is_array else "\n".join(texts))
    # In a process of its own: the peak of this one is that of all tests before.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    published, *rejected, peak_mb = done.stdout.split()
    assert (published, " ".join(rejected)) == ("2", "{'too_large': 1}")
    assert int(peak_mb) < 1000


@pytest.mark.large
def test_an_array_of_a_million_records_is_read(tmp_path: Path) -> None:
    record = '{"partner_name":"A","accommodation_id":"%d","accommodation_data":{}}'
    path = tmp_path / "file"
    path.write_text("[" + ",".join(record % (number % 1000) for number in range(1_000_000)) + "]")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    published, _, peak_mb = done.stdout.split()
    assert published == "1000"
    assert int(peak_mb) < 1000
