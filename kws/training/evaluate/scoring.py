"""What a model detects in recordings, at any threshold.

Each recording is scored on its own, as `kws detect` does it: the network starts from its initial
state, which stands for silence, and silence follows the last sample.

A threshold only chooses among the peaks of the score (`kws.runtime.postprocess`). Therefore each
recording is processed once, at a low threshold. The events at a higher threshold are the candidates
whose score reaches it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TypeVar

import numpy as np

from kws.audio import recordings
from kws.audio.formats import to_float32
from kws.errors import AudioError
from kws.runtime.postprocess import Detection, DetectionPostprocessor, Scores
from kws.runtime.spotter import Spotter
from kws.runtime.stream import concatenate_scores
from kws.training.data.clips import SPEECH, Clip
from kws.training.data.dataset import SILENCE_PEAK, SILENT_RECORDING, ClipDataset, peak
from kws.training.evaluate.test_streams import (
    EmbeddedWord,
    EvaluationStream,
    EvaluationStreams,
    embed_word,
)

# An event belongs to a word if its peak lies from this long before the word's end to this long
# after it.
EARLY_TOLERANCE_SECONDS = 0.35
LATE_TOLERANCE_SECONDS = 0.75
LOWEST_THRESHOLD = 0.04  # false alarms can be counted at this threshold and above
NEAR_FRACTION = 0.5  # of a threshold: a score from here on is nearly a false alarm

Item = TypeVar("Item")
Result = TypeVar("Result")
Waves = Sequence[np.ndarray] | ClipDataset  # samples [n] of clips, float32 at 16 kHz


@dataclass(frozen=True)
class Candidate:
    """An event at every threshold up to `event.score`."""

    event: Detection
    decision_seconds: float  # when the event is known, in seconds from the start of the audio


@dataclass(frozen=True)
class Match:
    """The events of a word that is spoken once, at one threshold."""

    hit: Candidate | None  # the first event on the word
    duplicates: tuple[Detection, ...]  # further events on the word
    false_alarms: tuple[Detection, ...]  # events elsewhere


@dataclass(frozen=True)
class ScoredWord:
    """A word that is spoken from `start` to `end`, in seconds of its audio; somewhere between them
    if it is not aligned.

    `candidates`: events of the word at threshold 0. `other_events`: events of the model's other
    words at the model's own thresholds.
    """

    start: float
    end: float
    candidates: tuple[Candidate, ...]
    other_events: tuple[Detection, ...] = ()
    is_aligned: bool = True

    @property
    def best_score(self) -> float:
        """The highest threshold at which the word is detected; 0 if there is none."""
        return max((each.event.score for each in self.candidates if self._is_hit(each)), default=0)

    def match(self, threshold: float) -> Match:
        """The events of the word at a threshold."""
        found = [each for each in self.candidates if each.event.score >= threshold]
        hits = [each for each in found if self._is_hit(each)]
        return Match(
            hits[0] if hits else None,
            tuple(each.event for each in hits[1:]),
            tuple(each.event for each in found if each not in hits),
        )

    def _is_hit(self, candidate: Candidate) -> bool:
        earliest = self.end - EARLY_TOLERANCE_SECONDS if self.is_aligned else self.start
        latest = self.end + LATE_TOLERANCE_SECONDS
        return earliest <= candidate.event.peak <= latest


@dataclass(frozen=True)
class ScoredRecording:
    """A recording without the words: its events at LOWEST_THRESHOLD, or at NEAR_FRACTION of the
    model's own thresholds where that is lower. kind: see `kws.training.data.clips.Clip`."""

    seconds: float
    candidates: tuple[Detection, ...]
    path: Path | None = None
    kind: str = SPEECH

    def events(self, thresholds: Mapping[str, float]) -> list[Detection]:
        """The events at these thresholds, one per word."""
        return [each for each in self.candidates if each.score >= thresholds[each.word]]


@dataclass(frozen=True)
class StreamResult:
    """One test stream of a word: its events at the model's own thresholds."""

    word: str
    clip: Clip
    stream: EvaluationStream
    match: Match
    other_events: tuple[Detection, ...]  # of the model's other words
    best_score: float  # the highest threshold at which the word is detected

    @property
    def missed(self) -> bool:
        return self.match.hit is None

    @property
    def false_alarms(self) -> tuple[Detection, ...]:
        return self.other_events + self.match.false_alarms


def score_word(spotter: Spotter, index: int, embedded: EmbeddedWord) -> ScoredWord:
    """Scores one spoken word, which is word number `index` of the model."""
    lowest = list(spotter.events.threshold)
    lowest[index] = 0.0
    spotter = Spotter(spotter.engine, spotter.events.at(lowest))
    stream = spotter.stream()
    events = stream.feed(embedded.audio)
    scores = stream.scores
    events += stream.finish()
    decisions = _decision_times(spotter, concatenate_scores([scores, stream.scores]))
    word = spotter.words[index]
    return ScoredWord(
        embedded.start,
        embedded.end,
        tuple(
            Candidate(event, seconds)
            for event, seconds in zip(events, decisions, strict=True)
            if event.word == word
        ),
        tuple(event for event in events if event.word != word),
    )


def score_words(
    spotter: Spotter,
    index: int,
    waves: Waves,
    endpoints: np.ndarray,
    snr_db: float | None = None,
) -> Iterator[ScoredWord]:
    """Scores clips of word number `index`, each between stretches of silence, or in pink noise at
    `snr_db`.

    endpoints [n, 2]: where the word lies in each of the first n clips, in seconds; NaN where it
    lies anywhere.
    """

    def score(number: int) -> ScoredWord:
        wave, place = waves[number], endpoints[number]
        is_aligned = not np.isnan(place).any()
        if not is_aligned:
            place = np.array([0.0, len(wave) / recordings.SAMPLE_RATE])
        embedded = embed_word(wave, place, snr_db, seed=number)
        return replace(score_word(spotter, index, embedded), is_aligned=is_aligned)

    return map_in_parallel(score, range(len(endpoints)))


def score_streams(
    spotter: Spotter, index: int, streams: EvaluationStreams
) -> Iterator[StreamResult]:
    """Scores every test stream of word number `index`."""

    def score(stream: EvaluationStream) -> StreamResult:
        embedded = EmbeddedWord(streams.audio(stream), stream.start, stream.end)
        scored = score_word(spotter, index, embedded)
        return StreamResult(
            spotter.words[index],
            streams.dataset.clips[stream.clip],
            stream,
            scored.match(spotter.events.threshold[index]),
            scored.other_events,
            scored.best_score,
        )

    return map_in_parallel(score, streams.all)


def score_clips(spotter: Spotter, waves: Waves) -> list[ScoredRecording]:
    """Scores clips without the words, in their order."""

    def score(number: int) -> ScoredRecording:
        kind = waves.clips[number].kind if isinstance(waves, ClipDataset) else SPEECH
        return replace(_score_blocks(spotter, [waves[number]]), kind=kind)

    return list(map_in_parallel(score, range(len(waves))))


def score_recordings(
    spotter: Spotter, clips: Sequence[Clip]
) -> Iterator[ScoredRecording | AudioError]:
    """Scores recordings without the words, in their order: an AudioError in place of one that
    cannot be read to its end."""
    stop = Event()

    def score(clip: Clip) -> ScoredRecording | AudioError:
        try:
            return replace(score_recording(spotter, clip.path, stop), kind=clip.kind)
        except AudioError as error:
            return error

    return map_in_parallel(score, clips, stop)


def score_recording(spotter: Spotter, path: Path, stop: Event | None = None) -> ScoredRecording:
    """Scores a recording without the words, until `stop` is set.

    Raises AudioError for a damaged recording, and for one without any sound: a muted microphone
    proves nothing.
    """
    loudest = 0.0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal loudest
        for block in recordings.stream_blocks(path):
            if stop and stop.is_set():
                return
            loudest = max(loudest, peak(to_float32(block)))
            yield block

    scored = _score_blocks(spotter, blocks(), path)
    if loudest <= SILENCE_PEAK:
        raise AudioError(f"{path}: {SILENT_RECORDING}")
    return scored


def count_alarms(
    scored_recordings: Iterable[ScoredRecording], word: str, thresholds: Sequence[float]
) -> np.ndarray:
    """Number of events of a word in recordings without it, at each threshold [T]."""
    scores = [
        event.score for each in scored_recordings for event in each.candidates if event.word == word
    ]
    return (np.array(scores) >= np.array(thresholds)[:, None]).sum(axis=1)


def count_hits(scored_words: Iterable[ScoredWord], thresholds: Sequence[float]) -> np.ndarray:
    """Number of words that are detected, at each threshold [T]."""
    scores = [each.best_score for each in scored_words]
    return (np.array(scores) >= np.array(thresholds)[:, None]).sum(axis=1)


def total_hours(scored_recordings: Iterable[ScoredRecording]) -> float:
    return sum(each.seconds for each in scored_recordings) / 3600


def map_in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], stop: Event | None = None
) -> Iterator[Result]:
    """Results in the order of `items`, computed on all cores.

    When the caller stops early, pending items are dropped, and `stop` is set for those in progress.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from pool.map(work, items)
        finally:
            if stop:
                stop.set()


def _score_blocks(
    spotter: Spotter, blocks: Iterable[np.ndarray], path: Path | None = None
) -> ScoredRecording:
    lowest = [min(LOWEST_THRESHOLD, NEAR_FRACTION * each) for each in spotter.events.threshold]
    stream = Spotter(spotter.engine, spotter.events.at(lowest)).stream(events_only=True)
    candidates = [event for block in blocks for event in stream.feed(block)]
    candidates += stream.finish()
    return ScoredRecording(stream.seconds, tuple(candidates), path)


def _decision_times(spotter: Spotter, scores: Scores) -> list[float]:
    """When each event is known, in seconds from the start of the audio, in the order of events."""
    frame_seconds = spotter.info.frame_seconds
    postprocessor = DetectionPostprocessor(spotter.words, spotter.events, frame_seconds)
    return [
        float(time)
        for number, time in enumerate(scores.times)
        for _ in postprocessor.feed(
            scores.pooled[number : number + 1], scores.boundaries[number : number + 1]
        )
    ]
