"""The accents that corpora name in their own words, in a few groups."""

import re

ACCENTS = {  # each with what the accents of a corpus hold
    "unknown": r"^$",
    "Mandarin": "mandarin",
    "North America": r"^us$|united states|canad",
    "British Isles": r"england|scot|ireland|irish|wales|united_kingdom",
    "Australia, New Zealand": "austral|zealand",
    "South Asia": "india",
    "other": "",
}


def group_accent(accent: str) -> str:
    """The first of ACCENTS that fits."""
    return next(name for name, pattern in ACCENTS.items() if re.search(pattern, accent.lower()))
