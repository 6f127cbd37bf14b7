"""Pronunciations of English words: misaki's dictionary in the package hibari-tts (Apache-2.0), and
its rules for words that are not in it.

Phones are letters of Kokoro's alphabet, one per phone, without stress.
"""

import gzip
import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.util import find_spec

from kws.errors import SynthError


def is_installed() -> bool:
    return find_spec("hibari") is not None


def require(purpose: str) -> None:
    """Raises SynthError where no dictionary is installed."""
    if not is_installed():
        raise SynthError(
            f"{purpose} needs a pronouncing dictionary, from the package hibari-tts. "
            "pip install hibari-tts"
        )


def phonemize(text: str) -> str:
    """The phones of a text, without stress and pauses."""
    return strip_stress(load_g2p(british=False)(text))


@cache
def load_entries() -> dict[str, str | dict]:
    """The pronunciation of each word as it is spelled, with stress; by part of speech where it
    depends on that."""
    with gzip.open(
        str(files("hibari") / "assets" / "lexicon_us_gold.json.gz"), "rt", encoding="utf-8"
    ) as file:
        return json.load(file)


@cache
def load_common_words() -> dict[str, str]:
    """The phones of each common word; names are left out."""
    pronunciations = {
        word: entry if isinstance(entry, str) else entry["DEFAULT"]
        for word, entry in load_entries().items()
    }
    words = (
        word
        for word, each in pronunciations.items()
        if each and word.isascii() and word.isalpha() and word.islower() and len(word) > 1
    )
    return {word: strip_stress(pronunciations[word]) for word in words}


@cache
def load_non_acronyms() -> frozenset[str]:
    """Words in lower case, without those that are spelled in capitals only."""
    return frozenset(word.lower() for word in load_entries() if not word.isupper())


@cache
def load_vocabulary() -> frozenset[str]:
    """All words of the dictionary, names too, in lower case."""
    return frozenset(word.lower() for word in load_entries())


@cache
def load_g2p(british: bool) -> Callable[[str], str]:
    from hibari.g2p import G2P

    return G2P(british=british)


def strip_stress(pronunciation: str) -> str:
    return "".join(symbol for symbol in pronunciation if symbol not in "ˈˌː .,!?-")
