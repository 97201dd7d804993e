"""Ownership of an output by a source, and its publication in one conditional request (docs/decisions/0011)."""

from __future__ import annotations

import logging

from sluice.core.quarantine import RejectedRecord
from sluice.core.scratch import scratch_folder
from sluice.errors import TerminalError
from sluice.pipelines.datasets import storage
from sluice.pipelines.datasets.batch import FileResult, StagedOutput
from sluice.pipelines.datasets.records import Reason, Source
from sluice.pipelines.datasets.storage import Published
from sluice.settings import Settings

log = logging.getLogger(__name__)


class PublishedMeanwhile(TerminalError):
    """Another run published the output meanwhile; versions of a URL cannot be ordered."""


def check_owner(source: Source, published: Published) -> None:
    """Raise RejectedRecord, reason `name_taken`, if an output belongs to another source."""
    if published.source != source.encoded_address:
        raise RejectedRecord(
            Reason.NAME_TAKEN,
            f"{source.output_key} belongs to {published.source or 'something else'}: rename one of the two files, or"
            ' take the name over with {"source": ..., "force": true}',
        )


def publish_output(
    settings: Settings, source: Source, file: FileResult, output: StagedOutput, *, take_over: bool
) -> bool:
    """Publish one file in one conditional request; returns whether it was published, not superseded by a newer version.

    The output must be the one that existed before the source was read. If it is another one, the source is checked
    again after the output: if it is still the same version, no newer one can have been published.
    (docs/decisions/0011.)

    Raises:
        RejectedRecord: reason `name_taken`.
    """
    version = output.version
    metadata = storage.output_metadata(source, version, file.records_in)
    expected = output.expected_etag
    with scratch_folder("datasets-aggregate") as folder:
        path = folder / "staged.parquet"
        storage.download_output(settings.lake_bucket, output.staged, path)
        while not storage.replace_output(settings.lake_bucket, output.key, path, metadata, expected):
            found = storage.read_published(settings.lake_bucket, output.key)
            if found and (found.source, found.version) == (source.encoded_address, version):
                log.info("%s is published already", output.key)
                return True
            if found and not take_over:
                check_owner(source, found)
            if source.is_url:
                raise PublishedMeanwhile(
                    f"{output.key} was published by another run meanwhile: trigger it again if"
                    f" {source.address} should be published"
                )
            if storage.read_version(settings.landing_bucket, source.location) != version:
                log.info("%s was replaced since it was read: its newer version is published instead", source.address)
                return False
            expected = found.etag if found else None
    log.info("%s: %d rows as s3://%s/%s", source.address, output.accepted, settings.lake_bucket, output.key)
    return True
