"""Rescoring of classes by the phones of their words.

A classifier knows its classes, and of other words only those it was trained on: it takes "go" for
"no". A network that recognises phones knows the phones of all words. So each word of a lexicon,
which also holds words that are no class, gets the log-likelihood of its phones in a clip (CTC,
Graves et al., ICML 2006, section 4.1). The margin of a class is how much more likely its word is
than the best other word. It is added, weighted, to the logit of the class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from kws.synth.confusables import pronunciations
from kws.training.model.phone_set import PHONES, to_phones

SCORED_FRAMES = 56  # 1.1 s, the last of a clip
MARGIN_WEIGHT = 0.3
MARGIN_RANGE = (-40.0, 5.0)  # of log-likelihood

Pronunciations = Mapping[str, Sequence[str]]  # of each word, in PHONES


@dataclass(frozen=True)
class Lexicon:
    """`known`: pronunciations of each class, none for a class that is no word; `others`:
    pronunciations of words that are no class."""

    known: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]

    @classmethod
    def build(cls, classes: Sequence[str], word_pronunciations: Pronunciations) -> "Lexicon":
        """Homophones of a class do not count as other words."""
        known = {name: tuple(word_pronunciations.get(name, ())) for name in classes}
        of_classes = {each for variants in known.values() for each in variants}
        of_others = [
            each
            for word, variants in word_pronunciations.items()
            if word not in classes
            for each in variants
        ]
        others = [each for each in dict.fromkeys(of_others) if each not in of_classes]
        return cls(known, tuple(others))

    def to_dict(self) -> dict:
        known = {name: list(variants) for name, variants in self.known.items()}
        return {"known": known, "others": list(self.others)}

    @classmethod
    def from_dict(cls, values: dict) -> "Lexicon":
        known = {name: tuple(variants) for name, variants in values["known"].items()}
        return cls(known, tuple(values["others"]))

    def margins(self, log_p: np.ndarray) -> np.ndarray:
        """Margins [n, W] of the classes, 0 where one is no word. log_p [n, F, phones]."""
        sequences, labels = list(self.others), [-1] * len(self.others)
        for label, variants in enumerate(self.known.values()):
            sequences += variants
            labels += [label] * len(variants)
        log_likelihoods, label_of_sequence = ctc_log_likelihoods(log_p, sequences), np.array(labels)
        margins = np.zeros((len(log_p), len(self.known)))
        for label in range(len(self.known)):
            is_own = label_of_sequence == label
            if is_own.any() and not is_own.all():
                own = log_likelihoods[:, is_own].max(1)
                margins[:, label] = own - log_likelihoods[:, ~is_own].max(1)
        return np.clip(margins, *MARGIN_RANGE)

    def rescore(self, logits: np.ndarray, log_p: np.ndarray) -> np.ndarray:
        """Logits [n, W] of the classes with their margins in the last frames of log_p
        [n, F, phones]."""
        return logits + MARGIN_WEIGHT * self.margins(log_p[:, -SCORED_FRAMES:])


def look_up_pronunciations(words: Iterable[str]) -> Pronunciations:
    """Pronunciations by an English dictionary, or by its rules; none for what is no word.

    Raises SynthError where hibari-tts is not installed.
    """
    variants = {
        word: tuple(dict.fromkeys(filter(None, map(to_phones, pronunciations(word)))))
        for word in sorted({*words})
        if word.isalpha()
    }
    return {word: pronunciation for word, pronunciation in variants.items() if pronunciation}


def ctc_log_likelihoods(log_p: np.ndarray, sequences: Sequence[str]) -> np.ndarray:
    """Log-likelihood [n, sequences] of each sequence of phones, from log p [n, F, phones]; -inf
    where a sequence is longer than the frames."""
    frames_first = torch.from_numpy(log_p).transpose(0, 1)
    frames, clips, _ = frames_first.shape

    def loss(sequence: str) -> Tensor:
        phones = torch.tensor(encode_phones(sequence)).expand(clips, -1)
        frame_counts = torch.full((clips,), frames)
        phone_counts = torch.full((clips,), len(sequence))
        return F.ctc_loss(frames_first, phones, frame_counts, phone_counts, reduction="none")

    return -torch.stack([loss(sequence) for sequence in sequences], dim=1).numpy()


def encode_phones(pronunciation: str) -> list[int]:
    """Indices of the phones; 0 is the blank."""
    return [PHONES.index(phone) + 1 for phone in pronunciation]
