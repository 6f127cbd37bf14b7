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
from kws.training.model.phone_set import PHONES, to_phones

SCORED_FRAMES = 56  # 1.1 s: those in which a word is read, the last of a clip
MARGIN_WEIGHT = 0.3  # of a margin, in logits
MARGIN_RANGE = (-40.0, 5.0)  # what is beyond says no more

Pronunciations = Mapping[str, Sequence[str]]  # the ways to pronounce each word, in LETTERS


@dataclass(frozen=True)
class Lexicon:
    """`known`: for each class the ways to pronounce it, none for what is no word; `others`: those
    of words that are no class."""

    known: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]

    @classmethod
    def build(cls, classes: Sequence[str], word_pronunciations: Pronunciations) -> "Lexicon":
        """What is said like one of the classes is not listed as another word."""
        known = {name: tuple(word_pronunciations.get(name, ())) for name in classes}
        class_variants = {
            pronunciation for variants in known.values() for pronunciation in variants
        }
        others = dict.fromkeys(
            pronunciation
            for word, variants in word_pronunciations.items()
            if word not in classes
            for pronunciation in variants
            if pronunciation not in class_variants
        )
        return cls(known, tuple(others))

    def to_dict(self) -> dict:
        return {
            "known": {name: list(variants) for name, variants in self.known.items()},
            "others": list(self.others),
        }

    @classmethod
    def from_dict(cls, values: dict) -> "Lexicon":
        return cls(
            {name: tuple(variants) for name, variants in values["known"].items()},
            tuple(values["others"]),
        )

    def margins(self, log_p: np.ndarray) -> np.ndarray:
        """[n, W] of the classes, 0 where one is no word. log_p [n, F, letters]: of the frames in
        which a word is read."""
        sequences = [
            *(pronunciation for variants in self.known.values() for pronunciation in variants),
            *self.others,
        ]
        class_of_sequence = np.array(
            [
                *(label for label, variants in enumerate(self.known.values()) for _ in variants),
                *[-1] * len(self.others),
            ]
        )
        log_likelihoods = ctc_log_probabilities(log_p, sequences)
        margins = np.zeros((len(log_p), len(self.known)))
        for label, variants in enumerate(self.known.values()):
            if variants and (class_of_sequence != label).any():
                margins[:, label] = log_likelihoods[:, class_of_sequence == label].max(
                    1
                ) - log_likelihoods[:, class_of_sequence != label].max(1)
        return np.clip(margins, *MARGIN_RANGE)

    def rescore(self, logits: np.ndarray, log_p: np.ndarray) -> np.ndarray:
        """Logits [n, W] of the classes, with what is read in the last frames of log_p
        [n, F, letters]."""
        return logits + MARGIN_WEIGHT * self.margins(log_p[:, -SCORED_FRAMES:])


def look_up_pronunciations(words: Iterable[str]) -> Pronunciations:
    """How the words are pronounced, by a dictionary of English, or by its rules; what is no word
    has no sounds.

    Raises SynthError where hibari-tts is not installed.
    """
    variants = {
        word: tuple(dict.fromkeys(filter(None, map(to_phones, pronunciations(word)))))
        for word in sorted({*words})
        if word.isalpha()
    }
    return {word: pronunciation for word, pronunciation in variants.items() if pronunciation}


def ctc_log_probabilities(log_p: np.ndarray, sequences: Sequence[str]) -> np.ndarray:
    """[n, words] of the letters of each word, from log p [n, F, letters]; -inf where they are more
    than the frames."""
    frames_first = torch.from_numpy(log_p).transpose(0, 1)
    frames, clips, _ = frames_first.shape

    def loss(pronunciation: str) -> Tensor:
        phones = torch.tensor(encode_phones(pronunciation)).expand(clips, -1)
        return F.ctc_loss(
            frames_first,
            phones,
            torch.full((clips,), frames),
            torch.full((clips,), len(pronunciation)),
            reduction="none",
        )

    return -torch.stack([loss(pronunciation) for pronunciation in sequences], dim=1).numpy()


def encode_phones(pronunciation: str) -> list[int]:
    """Numbers of the letters; 0 is the blank."""
    return [PHONES.index(letter) + 1 for letter in pronunciation]
