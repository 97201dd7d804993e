"""One run of a pipeline: its clock, and its keys in staging, quarantine and quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sluice import lake
from sluice.core import documents
from sluice.core.documents import Document
from sluice.core.quarantine import Rejection, write_rejections
from sluice.settings import load_settings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """The current time (UTC), for timestamps that are written; never to choose which data are read."""
    return datetime.now(UTC)


def epoch_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exact: orders times whose texts do not sort."""
    return (moment - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Run:
    """One run of a pipeline.

    Attributes:
        pipeline: its name, as in keys.
        slug: the run id as a part of a key.
        bucket: the lake bucket.
        clock: returns the time (UTC).
    """

    pipeline: str
    slug: str
    bucket: str
    clock: Callable[[], datetime] = utc_now

    @classmethod
    def of(cls, pipeline: str, run_id: str, clock: Callable[[], datetime] = utc_now) -> Run:
        """The run of an id, or of a slug, in the lake bucket of the settings."""
        return cls(pipeline, lake.run_slug(run_id), load_settings().lake_bucket, clock)

    def staging_key(self, name: str) -> str:
        """Key of one file of the run's work before its gate."""
        return lake.staging_key(self.pipeline, self.slug, name)

    def quarantine_key(self, step: str) -> str:
        """Key of the records that one step rejected."""
        return lake.quarantine_key(self.pipeline, self.slug, step)

    def report_key(self, gate: str, suffix: str) -> str:
        """Key of the report of a gate of the pipeline (`suffix` is `json` or `html`)."""
        return lake.quality_key(f"{self.pipeline}/{gate}", self.slug, suffix)

    def save(self, name: str, document: object) -> str:
        """Stage a document for a later step, see `sluice.core.documents`; returns its s3:// address."""
        return documents.save(self.bucket, self.staging_key(name), document)

    def load(self, name: str, kind: type[Document]) -> Document:
        """A document that an earlier step staged.

        Raises:
            StagingExpired: it does not exist any more, or another version of the code staged it.
        """
        return documents.load(self.bucket, self.staging_key(name), kind)

    def quarantine(self, step: str, rejections: Sequence[Rejection]) -> str | None:
        """Write what one step rejected as JSON Lines; a retry overwrites its own file.

        Returns:
            The s3:// address, or None when there is nothing to write.
        """
        return write_rejections(self.bucket, self.quarantine_key(step), rejections) if rejections else None
