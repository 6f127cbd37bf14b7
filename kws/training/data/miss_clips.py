"""Which held-out clips stand best for people who say the words: misses are measured on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kws.training.data.clips import Clip
from kws.training.data.sources import WordClips

MIN_HELDOUT_CLIPS = 10  # of each word: fewer say nothing of misses


@dataclass(frozen=True)
class MissClips:
    """Clips to measure misses on, one source per word. description: whose they are."""

    words: tuple[WordClips, ...]
    description: str


def choose_miss_clips(
    names: Sequence[str], candidates: Mapping[str, Sequence[WordClips]]
) -> MissClips | None:
    """The first of the candidates that has enough held-out clips of each word; None if none has.

    candidates: sources of the words by their description, the best first; held out is what they
    do not have in the split "train". Of several sources of a word the largest counts.
    """
    for description, sources in candidates.items():
        found = sorted(filter(None, map(find_heldout, sources)), key=lambda word: len(word.dataset))
        heldout = {word.name: word for word in found}  # the largest comes last, and stays
        if all(name in heldout for name in names):
            return MissClips(tuple(heldout[name] for name in names), description)
    return None


def find_heldout(word: WordClips) -> WordClips | None:
    """The clips of a word that nothing is learned from; None where they are too few, or no others
    are left to learn from."""
    heldout = word.select(is_held_out)
    is_enough = MIN_HELDOUT_CLIPS <= len(heldout.dataset) < len(word.dataset)
    return heldout if is_enough else None


def is_held_out(clip: Clip) -> bool:
    return clip.split != "train"
