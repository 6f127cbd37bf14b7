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


def is_there() -> bool:
    return find_spec("hibari") is not None


def need(purpose: str) -> None:
    """Raises SynthError where there is no dictionary."""
    if not is_there():
        raise SynthError(
            f"{purpose} needs a pronouncing dictionary, from the package hibari-tts. "
            "pip install hibari-tts"
        )


def sounds(text: str) -> str:
    """The sounds of a text, without stress and pauses."""
    return unstressed(pronouncer(british=False)(text))


@cache
def entries() -> dict[str, str | dict]:
    """Words as they are written, with their pronunciations; those of a word that is said in several
    ways by its use in a sentence."""
    with gzip.open(
        str(files("hibari") / "assets" / "lexicon_us_gold.json.gz"), "rt", encoding="utf-8"
    ) as file:
        return json.load(file)


@cache
def common() -> dict[str, str]:
    """Sounds of each common word; no names."""
    said = {
        word: entry if isinstance(entry, str) else entry["DEFAULT"]
        for word, entry in entries().items()
    }
    words = (
        word
        for word, each in said.items()
        if each and word.isascii() and word.isalpha() and word.islower() and len(word) > 1
    )
    return {word: unstressed(said[word]) for word in words}


@cache
def ordinary() -> frozenset[str]:
    """Words in small letters that are more than an acronym."""
    return frozenset(word.lower() for word in entries() if not word.isupper())


@cache
def known() -> frozenset[str]:
    """All words that are in it, names as well, in small letters."""
    return frozenset(word.lower() for word in entries())


@cache
def pronouncer(british: bool) -> Callable[[str], str]:
    from hibari.g2p import G2P

    return G2P(british=british)


def unstressed(pronunciation: str) -> str:
    return "".join(letter for letter in pronunciation if letter not in "ˈˌː .,!?-")
