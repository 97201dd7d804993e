"""Reconciliation of every run: records in = published + duplicates + quarantined (docs/pipelines.md)."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, fields

from sluice.errors import TerminalError

log = logging.getLogger(__name__)


class TallyError(TerminalError):
    """Records were lost or counted twice."""


@dataclass(frozen=True)
class Tally:
    """Counts of records of one run."""

    records_in: int
    published: int
    duplicates: int = 0
    quarantined: int = 0

    def checked(self, run: str) -> dict[str, int]:
        """Check the sum and log the counts; returns them as a dict for XCom.

        Raises:
            TallyError: the sum is wrong.
        """
        line = (
            f"{run}: {self.records_in} records in = {self.published} published"
            f" + {self.duplicates} duplicates + {self.quarantined} quarantined"
        )
        if self.records_in != self.published + self.duplicates + self.quarantined:
            raise TallyError(f"{line} does not hold: records were lost or counted twice")
        log.info(line)
        return asdict(self)


COUNTS = tuple(field.name for field in fields(Tally))
"""Keys of every tally: a task that returns all of them returned the tally of its run."""
