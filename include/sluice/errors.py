"""Errors that a person can mend."""


class SluiceError(RuntimeError):
    """An error whose message says what is wrong, where, and what to do; the command line shows nothing else."""
