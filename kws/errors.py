"""Errors that a user can act on. Each message says what is wrong, where, and what to do. A bug
raises an ordinary exception."""


def install_hint(extra: str) -> str:
    """How to install the packages of an extra."""
    return f"Install it from a clone of kws: pip install '.[{extra}]'"


class KwsError(Exception):
    """Base of all errors that are no bugs. `kws` prints the message alone and exits with status
    1."""


class AudioError(KwsError):
    """A recording or a microphone that cannot be read."""


class ModelError(KwsError):
    """A model file or checkpoint that cannot be used."""


class DataError(KwsError):
    """Training or evaluation data that cannot be used."""


class SynthError(KwsError):
    """A phrase that cannot be synthesized."""


class MissingExtraError(KwsError):
    """A feature whose optional packages are not installed."""
