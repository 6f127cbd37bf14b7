"""Words told apart by their sounds: which word of a list can be read best in a clip?

A network that sorts clips knows what its words sound like, and of all others only what it heard;
"go" it takes for "no", as nobody said it often enough. A network that reads has heard all sounds,
in other words. So it writes down what is said, letter by letter, and each word of a lexicon is
asked how probable its letters are (connectionist temporal classification, Graves et al., ICML 2006,
section 4.1: the sum over all ways to lay them along the frames). What counts for a class is by how
much its word is more probable than the best of all other words, of which the lexicon holds those
that are none of the classes, too. This margin is added to the logit of the class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from kws.synth.confusables import pronunciations
from kws.training.phones.utterances import LETTERS, lettered

FRAMES = 56  # 1.1 s: those in which a word is read, the last of a clip
WEIGHT = 0.3  # of a margin, in logits
MARGIN = (-40.0, 5.0)  # what is beyond says no more

Sounds = Mapping[str, Sequence[str]]  # the ways to pronounce each word, in LETTERS


@dataclass(frozen=True)
class Lexicon:
    """`known`: for each class the ways to pronounce it, none for what is no word; `others`: those
    of words that are no class."""

    known: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]

    @classmethod
    def of(cls, classes: Sequence[str], sounds: Sounds) -> "Lexicon":
        """What is said like one of the classes is not listed as another word."""
        known = {name: tuple(sounds.get(name, ())) for name in classes}
        taken = {said for ways in known.values() for said in ways}
        others = dict.fromkeys(
            said
            for word, ways in sounds.items()
            if word not in classes
            for said in ways
            if said not in taken
        )
        return cls(known, tuple(others))

    def to_dict(self) -> dict:
        return {
            "known": {name: list(ways) for name, ways in self.known.items()},
            "others": list(self.others),
        }

    @classmethod
    def from_dict(cls, values: dict) -> "Lexicon":
        return cls(
            {name: tuple(ways) for name, ways in values["known"].items()}, tuple(values["others"])
        )

    def margins(self, log_p: np.ndarray) -> np.ndarray:
        """[n, W] of the classes, 0 where one is no word. log_p [n, F, letters]: of the frames in
        which a word is read."""
        listed = [*(said for ways in self.known.values() for said in ways), *self.others]
        owner = np.array(
            [
                *(label for label, ways in enumerate(self.known.values()) for _ in ways),
                *[-1] * len(self.others),
            ]
        )
        found = log_probabilities(log_p, listed)
        margins = np.zeros((len(log_p), len(self.known)))
        for label, ways in enumerate(self.known.values()):
            if ways and (owner != label).any():
                margins[:, label] = found[:, owner == label].max(1) - found[:, owner != label].max(
                    1
                )
        return np.clip(margins, *MARGIN)

    def weighed(self, logits: np.ndarray, log_p: np.ndarray) -> np.ndarray:
        """Logits [n, W] of the classes, with what is read in the last frames of log_p
        [n, F, letters]."""
        return logits + WEIGHT * self.margins(log_p[:, -FRAMES:])


def pronounced(words: Iterable[str]) -> Sounds:
    """How the words are pronounced, by a dictionary of English, or by its rules; what is no word
    has no sounds.

    Raises SynthError where hibari-tts is not installed.
    """
    ways = {
        word: tuple(dict.fromkeys(filter(None, map(lettered, pronunciations(word)))))
        for word in sorted({*words})
        if word.isalpha()
    }
    return {word: said for word, said in ways.items() if said}


def log_probabilities(log_p: np.ndarray, listed: Sequence[str]) -> np.ndarray:
    """[n, words] of the letters of each word, from log p [n, F, letters]; -inf where they are more
    than the frames."""
    frames_first = torch.from_numpy(log_p).transpose(0, 1)
    frames, clips, _ = frames_first.shape

    def loss(said: str) -> Tensor:
        letters = torch.tensor(encoded(said)).expand(clips, -1)
        return F.ctc_loss(
            frames_first,
            letters,
            torch.full((clips,), frames),
            torch.full((clips,), len(said)),
            reduction="none",
        )

    return -torch.stack([loss(said) for said in listed], dim=1).numpy()


def encoded(said: str) -> list[int]:
    """Numbers of the letters; 0 is the blank."""
    return [LETTERS.index(letter) + 1 for letter in said]
