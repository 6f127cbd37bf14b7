"""How English words are pronounced: misaki's dictionary, which the package hibari-tts brings
(Apache-2.0), and its rules for all others.

Sounds are the letters of Kokoro's alphabet, one letter for a sound, stress left out.
"""

import gzip
import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.util import find_spec

from kws.synth.engines.base import SynthError


def is_installed() -> bool:
    return find_spec("hibari") is not None


def require(purpose: str) -> None:
    """Raises SynthError where there is no dictionary."""
    if not is_installed():
        raise SynthError(
            f"{purpose} needs a pronouncing dictionary, from the package hibari-tts. "
            "pip install hibari-tts"
        )


def phonemize(text: str) -> str:
    """The sounds of a text, without stress and pauses."""
    return strip_stress(load_g2p(british=False)(text))


@cache
def load_entries() -> dict[str, str | dict]:
    """Words as they are written, with their pronunciations; those of a word that is said in several
    ways by its use in a sentence."""
    with gzip.open(
        str(files("hibari") / "assets" / "lexicon_us_gold.json.gz"), "rt", encoding="utf-8"
    ) as file:
        return json.load(file)


@cache
def load_common_words() -> dict[str, str]:
    """Sounds of each common word; no names."""
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
    """Words in small letters that are more than an acronym."""
    return frozenset(word.lower() for word in load_entries() if not word.isupper())


@cache
def load_vocabulary() -> frozenset[str]:
    """All words that are in it, names as well, in small letters."""
    return frozenset(word.lower() for word in load_entries())


@cache
def load_g2p(british: bool) -> Callable[[str], str]:
    from hibari.g2p import G2P

    return G2P(british=british)


def strip_stress(pronunciation: str) -> str:
    return "".join(symbol for symbol in pronunciation if symbol not in "ˈˌː .,!?-")
