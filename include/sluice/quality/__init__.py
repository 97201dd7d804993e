"""Data-quality gates: what is read in staging must pass before it is published."""


class GateFailed(RuntimeError):
    """A critical expectation does not hold; nothing is published and staging is left for a look.

    The same data fails again, so Airflow does not retry it. It is here so that a Dag file can name it for nothing.
    """
