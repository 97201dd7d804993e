"""Data-quality gates: staged data must pass before they are published."""

from sluice.errors import TerminalError


class GateFailed(TerminalError):
    """A critical expectation failed; nothing is published, and staging is kept for analysis.

    The same data fails again.

    Args:
        message: which expectations, and where the report is.
        report: address of the report (s3://).
    """

    def __init__(self, message: str, report: str = "") -> None:
        super().__init__(message)
        self.report = report
