"""Data-quality gates: what is read in staging must pass before it is published."""

from sluice.errors import TerminalError


class GateFailed(TerminalError):
    """A critical expectation does not hold; nothing is published and staging is left for a look.

    The same data fails again.
    """
