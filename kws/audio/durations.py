"""Lengths of audio in messages."""

_SECONDS_BELOW_HOURS = 0.1


def format_duration(hours: float) -> str:
    """Hours, or seconds if there are few: a rate can be computed from what is printed."""
    return f"{hours:.2f} h" if hours >= _SECONDS_BELOW_HOURS else f"{3600 * hours:.0f} s"
