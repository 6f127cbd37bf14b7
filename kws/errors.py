"""Errors a user can act on. Each message says what is wrong, where, and what to do; a bug stays an
ordinary exception."""


def install_hint(extra: str) -> str:
    """What to do where packages of this extra are missing."""
    return f"Install it from a clone of kws: pip install '.[{extra}]'"


class KwsError(Exception):
    """Base of all errors that are not bugs of ours; `kws` prints its message alone and exits with
    status 1."""


class AudioError(KwsError):
    """A recording or a microphone that cannot be read."""


class ModelError(KwsError):
    """A model file or checkpoint that cannot be used."""


class DataError(KwsError):
    """Training or evaluation data that cannot be used."""


class MissingExtraError(KwsError):
    """A feature whose optional packages are not installed."""
