"""The two classes of errors: transient, and terminal (needs a person)."""


class SluiceError(RuntimeError):
    """An error whose message says what is wrong, where, and what to do; the command line shows nothing else."""


class TerminalError(SluiceError):
    """An error that repeats until a person resolves its cause; Airflow does not retry it."""
