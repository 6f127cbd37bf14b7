"""Where a phrase is said in sentences, by forced alignment."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from kws.errors import DataError
from kws.training.data.places import Place
from kws.training.data.transcripts import find_words
from kws.training.model.network import ScanningCNN
from kws.training.phones.alignment import AlignedWord, align_words

# Below these, recording and text do not fit: the geometric mean of the confidence of all words, and
# the confidence of the phrase.
MIN_FIT, MIN_CONFIDENCE = 0.03, 0.05


def locate_phrase(
    network: ScanningCNN,
    samples: np.ndarray,
    text: str,
    phrase: str,
    pronunciations: Mapping[str, str] | None = None,
) -> Place | None:
    """Where a phrase is said in a recording of a text that holds it once; None where the recording
    does not fit the text.

    samples [n]: float32 at 16 kHz. pronunciations: see `align_words`.
    """
    before, after = re.split(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, maxsplit=1)
    words = [*find_words(before), phrase, *find_words(after)]
    try:
        aligned = align_words(network, samples, words, pronunciations)
    except DataError:
        return None
    place = next((each for each in aligned if each.text == phrase), None)
    if place is None or place.confidence < MIN_CONFIDENCE or compute_fit(aligned) < MIN_FIT:
        return None
    return Place(place.start, place.end) if place.start < place.end else None


def compute_fit(aligned: Sequence[AlignedWord]) -> float:
    """The geometric mean of the confidence of some words."""
    return float(np.exp(np.mean(np.log([each.confidence + 1e-9 for each in aligned]))))
