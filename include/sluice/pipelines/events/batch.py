"""Documents that one step of the pipeline stages for the next one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sluice.core.checkpoints import ShardBatch
from sluice.pipelines.events.storage import parse_hour


@dataclass(frozen=True)
class RawFile:
    """A raw file: its key in staging, its key when published, its hour (as `hour_text`) and number of rows."""

    staged: str
    key: str
    hour: str
    rows: int


@dataclass(frozen=True)
class RejectedFile:
    """A quarantine file: its key in staging, its key when published, its number of records."""

    staged: str
    key: str
    records: int


@dataclass(frozen=True)
class Measures:
    """Measures for a gate.

    Attributes:
        counts: name -> number of rows, see `measures.measure_hour`.
        unknown_types: unexpected event types as a text; empty for none.
    """

    counts: dict[str, int]
    unknown_types: str

    @property
    def row(self) -> dict[str, object]:
        """The row of the gate."""
        return {**self.counts, "unknown_types": self.unknown_types}


@dataclass(frozen=True)
class IngestBatch:
    """Result of `drain`.

    Attributes:
        shards: records read of each shard.
        files: raw files.
        rejected: quarantine files.
        columns: new columns of the raw table and their types.
        measures: measures of all rows.
    """

    shards: list[ShardBatch]
    files: list[RawFile]
    rejected: list[RejectedFile]
    columns: dict[str, str]
    measures: Measures


@dataclass(frozen=True)
class HourInputs:
    """Inputs of a publication of an hour.

    Attributes:
        hour: as `hour_text`.
        published: addresses of the files of the hour in the table `events`.
        dirty_revision: revision of its dirty-hour marker; None without one.
        raw: keys of its raw files.
        previous: keys of the raw files of the deduplication window before it.
    """

    hour: str
    published: list[str]
    dirty_revision: str | None
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
        content: digest of the rows.
        measures: measures of the rows.
    """

    files: list[str]
    content: str
    measures: Measures


@dataclass(frozen=True)
class PreparedHour:
    """An hour ready for publication: the results of `list_inputs` and `stage_hour`."""

    inputs: HourInputs
    output: HourOutput


@dataclass(frozen=True)
class JobManifest:
    """Manifest of the Glue job of a run (`spark_job.main`): addresses of inputs and output."""

    raw: list[str]
    previous: list[str]
    out: str
    target_file_bytes: int
