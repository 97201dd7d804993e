"""The two classes of errors: those that a retry may cure, and those that need a person."""


class SluiceError(RuntimeError):
    """An error whose message says what is wrong, where, and what to do; the command line shows nothing else."""


class TerminalError(SluiceError):
    """An error that the same call raises again until a person has changed something; Airflow does not retry it."""
