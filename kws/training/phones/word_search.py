"""Where words are said in recordings without transcripts: a search by phones.

The network that comes with kws recognises the phones of a recording. In each frame the
pronunciations of a word are compared with the phones up to there (`kws.runtime.ctc`). The word is
said where the log-likelihood ratio per phone reaches `min_llr`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.ctc import compute_ctc_llr
from kws.runtime.engine import Engine
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings
from kws.runtime.verifier import CONTEXT_FRAMES, END_TOLERANCE_FRAMES
from kws.training.data.dataset import SILENCE_PEAK, peak
from kws.training.fit.model_card import load_uncalibrated
from kws.training.model.phone_set import BLANK, PHONES
from kws.training.model.pretrained import init_from_pretrained
from kws.training.model.torch_engine import load_network
from kws.training.phones.alignment import END_LAG_SECONDS

# experiments/word_search.py measured both on running speech of validation speakers.
MIN_PHONES = 5  # shorter words are read everywhere
MIN_LLR_OF_SHORTEST, MIN_LLR = -0.5, -1.0
MIN_GAP_SECONDS = 1.0  # places closer together are one
_TAIL_SECONDS = 1.0  # of silence after a recording, for the last phones
_PEAK = 0.5  # of the samples that the network gets
_BLOCK_FRAMES = 500  # compared at once, for the memory that it takes
_SILENCE_LOG_PROB = -30.0  # of any phone in silence


@dataclass(frozen=True)
class SaidWord:
    """A word that is read in a recording. end: of the word in seconds, to about half a second. llr:
    the log-likelihood ratio per phone, 0 where the network reads exactly the word."""

    word: str
    end: float
    llr: float


def min_llr(phones: int) -> float:
    """The lowest log-likelihood ratio per phone at which a word of so many phones is said; infinite
    for a word that is too short to be looked for."""
    if phones < MIN_PHONES:
        return np.inf
    return MIN_LLR_OF_SHORTEST if phones == MIN_PHONES else MIN_LLR


def open_phone_engine(recognizer: Path) -> Engine:
    """A phone recogniser (.pt) as an engine that gives phones. Raises KwsError."""
    config = replace(
        load_network(recognizer).config, words=("speech",), phones="".join((BLANK, *PHONES))
    )
    network = init_from_pretrained(config, recognizer, seed=0)
    with TemporaryDirectory() as folder:
        scratch = Path(folder) / "phones.kws"
        return load_uncalibrated(network, scratch, EventSettings((UNREACHABLE_THRESHOLD,)))


class WordSearch:
    """Looks for words in recordings.

    engine: see `open_phone_engine`. pronunciations: of each word, in PHONES. The words of which all
    are too short are `unsought`.
    """

    def __init__(self, engine: Engine, pronunciations: Mapping[str, Sequence[str]]):
        self._engine = engine
        self._pronunciations = {
            word: [each for each in variants if len(each) >= MIN_PHONES]
            for word, variants in pronunciations.items()
        }
        self.unsought = tuple(word for word, each in self._pronunciations.items() if not each)

    def find(self, samples: np.ndarray) -> list[SaidWord]:
        """Where the words are said. samples [n]: float32 at 16 kHz, of any level."""
        log_probs = read_phones(self._engine, samples)
        return [
            said
            for word, variants in self._pronunciations.items()
            if variants
            for said in self._pick_places(word, variants, log_probs, len(samples) / SAMPLE_RATE)
        ]

    def _pick_places(
        self, word: str, variants: Sequence[str], log_probs: np.ndarray, seconds: float
    ) -> list[SaidWord]:
        llrs = np.array([compute_llr(log_probs, each) for each in variants])
        lowest = np.array([min_llr(len(each)) for each in variants])
        is_said = (llrs >= lowest[:, None]).any(axis=0)
        llr = np.where(llrs >= lowest[:, None], llrs, -np.inf).max(axis=0)
        frame_seconds = self._engine.info.frame_seconds
        places = []
        for frames in _group(np.flatnonzero(is_said), round(MIN_GAP_SECONDS / frame_seconds)):
            best = frames[llr[frames].argmax()]
            end = np.clip((best + 1) * frame_seconds - END_LAG_SECONDS, 0.0, seconds)
            places.append(SaidWord(word, round(float(end), 2), round(float(llr[best]), 2)))
        return places


def read_phones(engine: Engine, samples: np.ndarray) -> np.ndarray:
    """Log probabilities [F, P] of the phones in a recording and in silence after it, at index 0
    that of none. samples [n]: float32 at 16 kHz, of any level."""
    loudest = peak(samples)
    gain = _PEAK / loudest if loudest > SILENCE_PEAK else 1.0
    stream = engine.open_stream()
    tail = np.zeros(round(_TAIL_SECONDS * SAMPLE_RATE), np.float32)
    steps = [stream.step(samples * np.float32(gain)), stream.step(tail)]
    return np.concatenate([step.phones for step in steps])


def compute_llr(log_probs: np.ndarray, pronunciation: str) -> np.ndarray:
    """The log-likelihood ratio per phone [F] of a pronunciation that ends in each frame or shortly
    before. log_probs [F, P]: see `read_phones`. pronunciation: in PHONES."""
    phones = [1 + PHONES.index(phone) for phone in pronunciation]
    past = np.full((CONTEXT_FRAMES - 1, log_probs.shape[1]), _SILENCE_LOG_PROB, log_probs.dtype)
    past[:, 0] = 0.0
    padded = np.concatenate([past, log_probs])
    blocks = (
        padded[at : at + _BLOCK_FRAMES + CONTEXT_FRAMES - 1]
        for at in range(0, len(log_probs), _BLOCK_FRAMES)
    )
    return np.concatenate(
        [compute_ctc_llr(each, phones, CONTEXT_FRAMES, END_TOLERANCE_FRAMES) for each in blocks]
    )


def _group(frames: np.ndarray, min_gap: int) -> list[np.ndarray]:
    """Frames [n] in ascending order, divided where they lie more than `min_gap` apart."""
    groups = np.split(frames, np.flatnonzero(np.diff(frames) > min_gap) + 1)
    return [each for each in groups if len(each)]
