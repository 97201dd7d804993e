"""Documents that one step of the pipeline stages for the next one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sluice.core.checkpoints import ShardBatch
from sluice.pipelines.events.storage import parse_hour


@dataclass(frozen=True)
class RawFile:
    """A raw file: its key in staging, the one it is published by, its hour (as `hour_text`) and rows."""

    staged: str
    key: str
    hour: str
    rows: int


@dataclass(frozen=True)
class RejectedFile:
    """A quarantine file: its key in staging, the one it is published by, its records."""

    staged: str
    key: str
    records: int


@dataclass(frozen=True)
class Measures:
    """What a gate looks at.

    Attributes:
        counts: name -> how many rows, see `measures.measure_hour`.
        unknown_types: event types that are not expected, as a text; empty where there are none.
    """

    counts: dict[str, int]
    unknown_types: str

    @property
    def row(self) -> dict[str, object]:
        """The row of the gate."""
        return {**self.counts, "unknown_types": self.unknown_types}


@dataclass(frozen=True)
class IngestBatch:
    """What `drain` stages.

    Attributes:
        shards: what was read of each.
        files: raw files.
        rejected: quarantine files.
        columns: new columns of the raw table and their types.
        measures: of all rows.
    """

    shards: list[ShardBatch]
    files: list[RawFile]
    rejected: list[RejectedFile]
    columns: dict[str, str]
    measures: Measures


@dataclass(frozen=True)
class HourInputs:
    """What a publication of an hour is made from.

    Attributes:
        hour: as `hour_text`.
        published: addresses of the files that hold the hour in the table `events`.
        touched: revision of its mark, None without one.
        raw: keys of its raw files.
        previous: keys of those of the lookback.
    """

    hour: str
    published: list[str]
    touched: str | None
    raw: list[str]
    previous: list[str]

    @property
    def start(self) -> datetime:
        """Start of the hour (UTC)."""
        return parse_hour(self.hour)


@dataclass(frozen=True)
class HourOutput:
    """The rows of an hour in staging.

    Attributes:
        files: their keys.
        content: what tells these rows from others.
        measures: of them.
    """

    files: list[str]
    content: str
    measures: Measures


@dataclass(frozen=True)
class PreparedHour:
    """An hour that can be published: what `list_inputs` found, and what `stage_hour` returned."""

    inputs: HourInputs
    output: HourOutput


@dataclass(frozen=True)
class JobManifest:
    """What the Glue job of a run reads (`spark_job.main`): addresses, and where to write."""

    raw: list[str]
    previous: list[str]
    out: str
    target_file_bytes: int
