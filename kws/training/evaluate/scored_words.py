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
from kws.runtime.postprocess import Detection, EventMachine, EventSettings, Scores
from kws.runtime.spotter import as_scores, join
from kws.training.augment.mixer import coloured_noise

BLOCK_SAMPLES = 30 * SAMPLE_RATE
GAP_SAMPLES = SAMPLE_RATE // 4  # between clips that are laid end to end
LEAD_SECONDS = 2.0
TAIL_SECONDS = 1.5
# An event this much before the word's end, or this much after it, is the word's.
EARLY_SECONDS = 0.35
LATE_SECONDS = 0.75


@dataclass(frozen=True)
class Trial:
    """One word at a known place: its scores, and where it begins and ends in them (seconds)."""

    scores: Scores
    start: float
    end: float


def listen(engine: Engine, waves: Iterable[np.ndarray]) -> Scores:
    """Scores of clips laid end to end in one stream."""
    state, parts, seen = engine.silence(), [], 0
    for block in end_to_end(waves):
        step, state = engine.step(block[None], state)
        parts.append(as_scores(step, seen, engine.info.frame_seconds))
        seen += step.pooled.shape[1]
    return join(parts)


def place(
    wave: np.ndarray,
    extent: np.ndarray,
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
    start, end = (extent * SAMPLE_RATE).astype(int)
    power = np.sort(wave[start:end].astype(np.float64) ** 2)[(end - start) // 2 :].mean()
    noise = (
        coloured_noise(len(audio), 1.0, np.random.default_rng(seed))
        if noise is None
        else np.resize(noise, len(audio))
    )
    return audio + noise * np.float32(np.sqrt(power / np.mean(noise**2) * 10 ** (-snr_db / 10)))


def word_trials(
    engine: Engine,
    waves: list[np.ndarray],
    extents: np.ndarray,
    snr_db: float | None = None,
    seed: int = 0,
) -> list[Trial]:
    """One trial per clip of a word; extents [n, 2]: where the word lies in each clip,
    in seconds."""
    placed = (
        place(wave, extent, snr_db, seed + i)
        for i, (wave, extent) in enumerate(zip(waves, extents, strict=True))
    )
    return [
        trial(engine, audio, *(LEAD_SECONDS + extent))
        for audio, extent in zip(placed, extents, strict=True)
    ]


def trial(engine: Engine, audio: np.ndarray, start: float, end: float) -> Trial:
    """The scores of a recording in which the word lies here."""
    step, _ = engine.step(audio[None], engine.silence())
    return Trial(as_scores(step, 0, engine.info.frame_seconds), start, end)


def events(scores: Scores, words: tuple[str, ...], settings: EventSettings) -> list[Detection]:
    """Events of a whole score track."""
    machine = EventMachine(words, settings)
    portions = range(0, len(scores.times), 500)  # quiet stretches are passed over as a whole
    return [
        event for at in portions for event in machine.feed(portion(scores, slice(at, at + 500)))
    ]


def found(
    trial: Trial, word: int, words: tuple[str, ...], settings: EventSettings
) -> list[Detection]:
    """The events of this word that fall on its place."""
    return [
        event
        for event in events(trial.scores, words, settings)
        if event.word == words[word] and is_on_word(event.peak, trial.end)
    ]


def is_on_word(peak: float | np.ndarray, word_end: float) -> bool | np.ndarray:
    """Whether events with these peaks are the word's that ends here (seconds)."""
    return (word_end - EARLY_SECONDS <= peak) & (peak <= word_end + LATE_SECONDS)


def decisions(
    scores: Scores,
    words: tuple[str, ...],
    settings: EventSettings,
) -> list[tuple[Detection, float]]:
    """Events of a whole score track, each with the time (seconds) at which it became known."""
    machine, known = EventMachine(words, settings), []
    for at, time in enumerate(scores.times):
        frame = portion(scores, slice(at, at + 1))
        known += [(event, float(time)) for event in machine.feed(frame)]
    return known


def decision(
    trial: Trial, word: int, words: tuple[str, ...], settings: EventSettings
) -> tuple[Detection, float] | None:
    """The word's event and the time (seconds) at which it became known; None where it
    was missed."""
    for event, known in decisions(trial.scores, words, settings):
        if event.word == words[word] and is_on_word(event.peak, trial.end):
            return event, known
    return None


def miss_rate(
    trials: list[Trial], word: int, words: tuple[str, ...], settings: EventSettings
) -> float:
    return 1 - sum(bool(found(trial, word, words, settings)) for trial in trials) / max(
        len(trials), 1
    )


def portion(scores: Scores, part: slice) -> Scores:
    """The scores of some of the frames."""
    return Scores(
        scores.times[part], scores.pooled[part], scores.frames[part], scores.extents[part]
    )


def end_to_end(waves: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Clips with gaps between them, in blocks of some seconds."""
    waiting, length = [], 0
    gap = np.zeros(GAP_SAMPLES, np.float32)
    for wave in waves:
        waiting += [wave, gap]
        length += len(wave) + GAP_SAMPLES
        if length >= BLOCK_SAMPLES:
            yield np.concatenate(waiting)
            waiting, length = [], 0
    yield np.concatenate([*waiting, gap])
