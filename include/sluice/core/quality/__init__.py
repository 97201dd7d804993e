"""Data-quality gates: what is read in staging must pass before it is published."""

from sluice.errors import TerminalError


class GateFailed(TerminalError):
    """A critical expectation does not hold; nothing is published and staging is left for a look.

    The same data fails again.

    Args:
        message: which expectations, and where the report is.
        report: address of the report (s3://).
    """

    def __init__(self, message: str, report: str = "") -> None:
        super().__init__(message)
        self.report = report
