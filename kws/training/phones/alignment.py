"""Where each word of a transcript is said: forced alignment by a network that recognises phones.

The best path through the phones of the transcript is sought in the output of the network. Blanks
may lie between any two phones, and therefore pauses between any two words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import TokenSpan, forced_align, merge_tokens

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import DataError
from kws.synth.pronunciation import phonemize
from kws.training.data.dataset import SILENCE_PEAK, SILENT_RECORDING, peak
from kws.training.model.network import ScanningCNN
from kws.training.model.phone_set import PHONES, to_phones

# The network that comes with kws gives the first phone of a word so long after the word's start,
# and the last phone so long after its end.
START_LAG_SECONDS, END_LAG_SECONDS = 0.42, 0.37
_TAIL_SECONDS = 1.0  # of silence after the recording, for the last phones
_PEAK = 0.5  # of the samples that the network gets


@dataclass(frozen=True)
class AlignedWord:
    """A word that is said from `start` to `end`, in seconds.

    `confidence` (0-1) compares the phones of the word with the best ones of the network: the
    geometric mean of the ratio of their probabilities. It is 1 where the network reads the word.
    """

    text: str
    start: float
    end: float
    confidence: float


def align_words(
    network: ScanningCNN,
    samples: np.ndarray,
    words: Sequence[str],
    pronunciations: Mapping[str, str] | None = None,
) -> list[AlignedWord]:
    """The place of each word, or phrase, in a recording in which nothing else is said.

    samples [n]: float32 at 16 kHz. pronunciations: of words that are not said as a dictionary says
    them, in Kokoro's alphabet. Words without a phone that the network knows are left out. Raises
    DataError for a recording without sound, and for one too short for the words.
    """
    given = pronunciations or {}
    spoken = [(word, to_phones(given.get(word) or phonemize(word))) for word in words]
    spoken = [(word, phones) for word, phones in spoken if phones]
    if not spoken:
        return []
    log_probs = _recognize(network, samples)
    spans, losses = _find_best_path(log_probs, "".join(phones for _, phones in spoken))
    frame_seconds = network.config.frame_samples / SAMPLE_RATE
    seconds = len(samples) / SAMPLE_RATE
    aligned: list[AlignedWord] = []
    for word, phones in spoken:
        own, spans = spans[: len(phones)], spans[len(phones) :]
        first, end = own[0].start, own[-1].end
        word_start = float(np.clip(first * frame_seconds - START_LAG_SECONDS, 0.0, seconds))
        word_end = float(np.clip(end * frame_seconds - END_LAG_SECONDS, word_start, seconds))
        confidence = float(torch.exp(losses[first:end].sum() / len(phones)))
        aligned.append(AlignedWord(word, word_start, word_end, confidence))
    return aligned


@torch.inference_mode()
def _recognize(network: ScanningCNN, samples: np.ndarray) -> Tensor:
    """Log probabilities [F, P] of the phones in a recording after silence, and before silence."""
    loudest = peak(samples)
    if loudest <= SILENCE_PEAK:
        raise DataError(SILENT_RECORDING)
    frames = -(-len(samples) // network.config.frame_samples)
    frames += round(_TAIL_SECONDS * SAMPLE_RATE / network.config.frame_samples)
    audio = torch.zeros(1, frames * network.config.frame_samples)
    audio[0, : len(samples)] = torch.from_numpy(samples) * (_PEAK / loudest)
    output, _ = network(audio, network.initial_state())
    return output.logits[0].log_softmax(0).T.contiguous()


def _find_best_path(log_probs: Tensor, phones: str) -> tuple[list[TokenSpan], Tensor]:
    """The frames of each phone on the best path through all of them; and what the path loses in
    each frame to the best phone of the frame [F]."""
    targets = torch.tensor([[1 + PHONES.index(phone) for phone in phones]])
    repetitions = sum(a == b for a, b in pairwise(phones))
    if len(phones) + repetitions > len(log_probs):
        raise DataError(f"it is too short for the {len(phones)} phones of its transcript.")
    path, path_log_probs = forced_align(log_probs[None], targets)
    losses = path_log_probs[0] - log_probs.amax(1)
    return merge_tokens(path[0], path_log_probs[0]), losses
