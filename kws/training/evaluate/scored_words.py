"""Trials: what a model scores on words at known places and on hours without the word; events and
misses at any threshold.

Events come from the same state machine as everywhere, so a threshold chosen here means the same
in `kws detect`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.engine import Engine
from kws.runtime.postprocess import Detection, DetectionPostprocessor, EventSettings, Scores
from kws.runtime.spotter import concatenate_scores, scores_from_step
from kws.training.data.noise import make_coloured_noise

BLOCK_SAMPLES = 30 * SAMPLE_RATE
GAP_SAMPLES = SAMPLE_RATE // 4  # between clips that are laid end to end
LEAD_SECONDS = 2.0
TAIL_SECONDS = 1.5
# An event this much before the word's end, or this much after it, is the word's.
EARLY_TOLERANCE_SECONDS = 0.35
LATE_TOLERANCE_SECONDS = 0.75


@dataclass(frozen=True)
class Trial:
    """One word at a known place: its scores, and where it begins and ends in them (seconds)."""

    scores: Scores
    start: float
    end: float


def score_waves(engine: Engine, waves: Iterable[np.ndarray]) -> Scores:
    """Scores of clips laid end to end in one stream."""
    state, parts, frame_count = engine.initial_state(), [], 0
    for block in concatenate_clips(waves):
        step, state = engine.step(block[None], state)
        parts.append(scores_from_step(step, frame_count, engine.info.frame_seconds))
        frame_count += step.pooled.shape[1]
    return concatenate_scores(parts)


def embed_in_noise(
    wave: np.ndarray,
    endpoints: np.ndarray,
    snr_db: float | None,
    seed: int,
    noise: np.ndarray | None = None,
    *,
    lead_seconds: float = LEAD_SECONDS,
    tail_seconds: float = TAIL_SECONDS,
) -> np.ndarray:
    """A word after some silence and before a little more, in noise at this SNR (pink unless given)
    or in none.

    The level of the word is that of its louder half.
    """
    lead, tail = (
        np.zeros(round(seconds * SAMPLE_RATE)) for seconds in (lead_seconds, tail_seconds)
    )
    audio = np.concatenate([lead, wave, tail]).astype(np.float32)
    if snr_db is None:
        return audio
    start, end = (endpoints * SAMPLE_RATE).astype(int)
    power = np.sort(wave[start:end].astype(np.float64) ** 2)[(end - start) // 2 :].mean()
    noise = (
        make_coloured_noise(len(audio), 1.0, np.random.default_rng(seed))
        if noise is None
        else np.resize(noise, len(audio))
    )
    return audio + noise * np.float32(np.sqrt(power / np.mean(noise**2) * 10 ** (-snr_db / 10)))


def score_words(
    engine: Engine,
    waves: list[np.ndarray],
    boundaries: np.ndarray,
    snr_db: float | None = None,
    seed: int = 0,
) -> list[Trial]:
    """One trial per clip of a word; extents [n, 2]: where the word lies in each clip,
    in seconds."""
    embedded = (
        embed_in_noise(wave, endpoints, snr_db, seed + i)
        for i, (wave, endpoints) in enumerate(zip(waves, boundaries, strict=True))
    )
    return [
        trial(engine, audio, *(LEAD_SECONDS + endpoints))
        for audio, endpoints in zip(embedded, boundaries, strict=True)
    ]


def trial(engine: Engine, audio: np.ndarray, start: float, end: float) -> Trial:
    """The scores of a recording in which the word lies here."""
    step, _ = engine.step(audio[None], engine.initial_state())
    return Trial(scores_from_step(step, 0, engine.info.frame_seconds), start, end)


def events(scores: Scores, words: tuple[str, ...], settings: EventSettings) -> list[Detection]:
    """Events of a whole score track."""
    postprocessor = DetectionPostprocessor(words, settings)
    portions = range(0, len(scores.times), 500)  # quiet stretches are passed over as a whole
    return [
        event
        for at in portions
        for event in postprocessor.feed(slice_scores(scores, slice(at, at + 500)))
    ]


def found(
    trial: Trial, word: int, words: tuple[str, ...], settings: EventSettings
) -> list[Detection]:
    """The events of this word that fall on its place."""
    return [
        event
        for event in events(trial.scores, words, settings)
        if event.word == words[word] and is_hit(event.peak, trial.end)
    ]


def is_hit(peak: float | np.ndarray, word_end: float) -> bool | np.ndarray:
    """Whether events with these peaks are the word's that ends here (seconds)."""
    return (word_end - EARLY_TOLERANCE_SECONDS <= peak) & (
        peak <= word_end + LATE_TOLERANCE_SECONDS
    )


def detect_with_times(
    scores: Scores,
    words: tuple[str, ...],
    settings: EventSettings,
) -> list[tuple[Detection, float]]:
    """Events of a whole score track, each with the time (seconds) at which it became known."""
    postprocessor, timed_events = DetectionPostprocessor(words, settings), []
    for at, time in enumerate(scores.times):
        frame = slice_scores(scores, slice(at, at + 1))
        timed_events += [(event, float(time)) for event in postprocessor.feed(frame)]
    return timed_events


def find_decision(
    trial: Trial, word: int, words: tuple[str, ...], settings: EventSettings
) -> tuple[Detection, float] | None:
    """The word's event and the time (seconds) at which it became known; None where it
    was missed."""
    for event, timed_events in detect_with_times(trial.scores, words, settings):
        if event.word == words[word] and is_hit(event.peak, trial.end):
            return event, timed_events
    return None


def miss_rate(
    trials: list[Trial], word: int, words: tuple[str, ...], settings: EventSettings
) -> float:
    return 1 - sum(bool(found(trial, word, words, settings)) for trial in trials) / max(
        len(trials), 1
    )


def slice_scores(scores: Scores, part: slice) -> Scores:
    """The scores of some of the frames."""
    return Scores(
        scores.times[part], scores.pooled[part], scores.frames[part], scores.boundaries[part]
    )


def concatenate_clips(waves: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Clips with gaps between them, in blocks of some seconds."""
    pending, length = [], 0
    gap = np.zeros(GAP_SAMPLES, np.float32)
    for wave in waves:
        pending += [wave, gap]
        length += len(wave) + GAP_SAMPLES
        if length >= BLOCK_SAMPLES:
            yield np.concatenate(pending)
            pending, length = [], 0
    yield np.concatenate([*pending, gap])
