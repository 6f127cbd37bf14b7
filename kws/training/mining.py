"""Hard negatives: a trained network listens to sounds without the word, and what fires is cut out, to be learned from again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kws.audio import SAMPLE_RATE
from kws.engine import Engine
from kws.training import trials
from kws.training.clips import Bank, Clip, pack
from kws.training.mixing import Source

BEFORE_SECONDS = 1.6  # of what is cut out, before the score's peak: all that the network looked at
AFTER_SECONDS = 0.2


def mine(engine: Engine, banks: Sequence[Bank], threshold: float = 0.3) -> Bank:
    """What scores at least `threshold` for a single frame, cut out of the clips of all banks, a piece per event."""
    pieces = [piece for bank in banks for piece in _fires(engine, bank, threshold)]
    return pack([clip for clip, _ in pieces], [wave for _, wave in pieces])


def with_mined(sources: Sequence[Source], mined: Bank, share: float) -> tuple[Source, ...]:
    """The sources, and the mined clips drawn from with this share of all draws."""
    if not len(mined):
        return tuple(sources)
    return (*sources, Source(mined, share / (1 - share) * sum(source.weight for source in sources)))


def _fires(engine: Engine, bank: Bank, threshold: float) -> list[tuple[Clip, np.ndarray]]:
    scores = trials.listen(engine, (bank[i] for i in range(len(bank))))
    settings = replace(trials.at_threshold(engine.info.events, threshold), confirm_frames=1)
    begins = bank.starts[:-1] + trials.GAP_SAMPLES * np.arange(len(bank))  # of each clip in the stream that was listened to
    found = []
    for event in trials.events(scores, engine.info.words, settings):
        peak = round(event.peak * SAMPLE_RATE)
        index = int(np.searchsorted(begins, peak, side="right")) - 1
        at = peak - int(begins[index])
        wave = bank.samples[bank.starts[index] : bank.starts[index + 1]]
        found.append((bank.clips[index], wave[max(at - int(BEFORE_SECONDS * SAMPLE_RATE), 0) : at + int(AFTER_SECONDS * SAMPLE_RATE)]))
    return found
