"""Pack lines into files of bounded size. No AWS."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.pipelines.accommodations.records import MAX_BYTES

if TYPE_CHECKING:
    import pyarrow as pa


def pack_lines(lines: Iterator[pa.Array], out_dir: Path) -> tuple[list[Path], int]:
    """Write lines to files of at most `MAX_BYTES`, each as full as its lines allow; returns the files and the number of
    lines.

    The lines of a batch are contiguous in memory, so a file is a slice of it. A batch is written while the next one is
    fetched.
    """
    import numpy as np

    outputs: list[Path] = []
    rows = 0
    rest = b""
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(2) as pool:
        for batch in lines:
            rows += len(batch)
            offsets = np.frombuffer(batch.buffers()[1], np.int32)[batch.offset : batch.offset + len(batch) + 1]
            content = rest + memoryview(batch.buffers()[2])[int(offsets[0]) : int(offsets[-1])]
            ends = offsets[1:].astype(np.int64) - int(offsets[0]) + len(rest)
            cuts = [0]
            while len(content) - cuts[-1] > MAX_BYTES:
                fitting = int(np.searchsorted(ends, cuts[-1] + MAX_BYTES, "right"))
                # The rest of the previous batch ends where the first of these lines begins.
                cuts.append(int(ends[fitting - 1]) if fitting else len(rest))
            rest = content[cuts[-1] :]
            first = len(outputs)
            outputs += [out_dir / f"output-{number:05d}.jsonl" for number in range(first, first + len(cuts) - 1)]
            writing.append(pool.submit(_write_slices, content, cuts, outputs[first:]))
            # Two batches in memory, not all of them.
            if len(writing) > 1:
                writing.popleft().result()
        for each in writing:
            each.result()
    if rest:
        outputs.append(out_dir / f"output-{len(outputs):05d}.jsonl")
        outputs[-1].write_bytes(rest)
    return outputs, rows


def _write_slices(content: bytes, cuts: Sequence[int], paths: Sequence[Path]) -> None:
    view = memoryview(content)
    for path, begin, end in zip(paths, cuts, cuts[1:], strict=False):
        path.write_bytes(view[begin:end])
