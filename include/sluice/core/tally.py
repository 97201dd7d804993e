"""The sum every run must show: records in = published + duplicates + quarantined (docs/pipelines.md, Shared ground)."""

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
        """The counts as a dict for XCom, once the sum holds; logs them.

        Raises:
            TallyError: the sum does not hold.
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
