"""What a model makes of streams and of long recordings, heard as `kws detect` hears them: blocks
into a stream, silence at the end."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from threading import Event
from typing import TypeVar

import numpy as np

from kws.audio import recordings
from kws.errors import AudioError
from kws.runtime.postprocess import Detection, Scores
from kws.runtime.spotter import Spotter, concatenate_scores
from kws.training.data.clips import Clip
from kws.training.data.dataset import SILENCE_PEAK, SILENT_RECORDING, peak
from kws.training.evaluate.matching import alarm_counts, best_score, match_events
from kws.training.evaluate.scored_words import Trial, detect_with_times, events
from kws.training.evaluate.test_streams import EvaluationStream, EvaluationStreams

NEAR_FRACTION = 0.5  # of the threshold: what comes this near is kept to be listened to
_PENDING_PER_WORKER = 4  # pieces of work per worker that may be under way
_NEAR_SECONDS = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[
    [Iterable[Result], int], Iterable[Result]
]  # shows how many of a number are done


@dataclass(frozen=True)
class StreamResult:
    """One stream of a word: what happens at the model's own threshold, and what would at others."""

    clip: Clip
    stream: EvaluationStream
    event: Detection | None  # the hit
    decision_seconds: float | None  # when it was known, in seconds of the stream
    duplicates: int
    alarms: tuple[Detection, ...]  # of this word outside its place, and of any other word
    best_threshold: float  # the highest threshold at which the word is found


@dataclass(frozen=True)
class RecordingResult:
    """One recording without the words: `counts` [W, T] of events at each threshold, and those at
    the model's own."""

    path: Path
    seconds: float
    counts: np.ndarray
    alarms: tuple[Detection, ...]
    near_alarms: tuple[Detection, ...]  # what would be an event at a lower threshold


def run_spotter(spotter: Spotter, blocks: Iterable[np.ndarray]) -> tuple[Scores, list[Detection]]:
    """All scores and events of some audio. Raises AudioError where the blocks do."""
    stream, parts = spotter.stream(), []
    detections = list(stream.detect_blocks(blocks, lambda stream, _: parts.append(stream.scores)))
    return concatenate_scores([*parts, stream.scores]), detections


def score_streams(
    spotter: Spotter, word: int, streams: EvaluationStreams, progress: Progress
) -> list[StreamResult]:
    """Hears every stream of word number `word`."""

    def one(stream: EvaluationStream) -> StreamResult:
        return _score_stream(spotter, word, streams, stream)

    return list(progress(run_in_parallel(one, streams.all), len(streams.all)))


def score_recordings(
    spotter: Spotter,
    clips: Sequence[Clip],
    thresholds: Sequence[float],
    warn: Callable[[str], None],
    progress: Progress,
) -> list[RecordingResult]:
    """Hears recordings in which no word is said. Those that cannot be read to the end are named
    with `warn` and left out."""

    stop_event = Event()

    def one(clip: Clip) -> RecordingResult | str:
        try:
            return score_recording(spotter, clip.path, thresholds, stop_event)
        except AudioError as error:
            return f"left out: {error}"

    results = list(progress(run_in_parallel(one, clips, stop_event), len(clips)))
    for result in results:
        if isinstance(result, str):
            warn(result)
    return [result for result in results if isinstance(result, RecordingResult)]


def score_recording(
    spotter: Spotter, path: Path, thresholds: Sequence[float], stop_event: Event | None = None
) -> RecordingResult:
    """Hears one recording without the words. Raises AudioError, also where there is no sound in it:
    a muted microphone proves nothing."""
    lengths: list[int] = []
    loudest = 0.0

    def counted(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal loudest
        for block in blocks:
            lengths.append(len(block))
            loudest = max(loudest, peak(block))
            yield block

    scores, alarms = run_spotter(spotter, counted(_stop_on(stop_event, recordings.blocks(path))))
    if loudest <= SILENCE_PEAK:
        raise AudioError(f"{path}: {SILENT_RECORDING}")
    words = range(len(spotter.words))
    counts = np.stack([alarm_counts(scores, word, thresholds, spotter.events) for word in words])
    return RecordingResult(
        path,
        sum(lengths) / recordings.SAMPLE_RATE,
        counts,
        tuple(alarms),
        _find_near_alarms(spotter, scores, alarms),
    )


def run_in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], stop_event: Event | None = None
) -> Iterator[Result]:
    """Results in the order of `items`, on all cores. When the reader stops, at most the pieces
    under way are finished; long ones may look at `stop_event`."""
    workers = os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)
    try:
        items = iter(items)
        pending = [pool.submit(work, item) for item in islice(items, _PENDING_PER_WORKER * workers)]
        while pending:
            yield pending.pop(0).result()
            pending += [pool.submit(work, item) for item in islice(items, 1)]
    finally:
        if stop_event:
            stop_event.set()
        pool.shutdown(cancel_futures=True)


def _stop_on(stop_event: Event | None, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks until someone has stopped, as with Ctrl-C: of a long recording nobody waits for
    the rest."""
    return takewhile(lambda _: not (stop_event and stop_event.is_set()), blocks)


def _score_stream(
    spotter: Spotter, word: int, streams: EvaluationStreams, stream: EvaluationStream
) -> StreamResult:
    scores, detections = run_spotter(spotter, [streams.audio(stream)])
    settings, name = spotter.events, spotter.words[word]
    own = [event for event in detections if event.word == name]
    timed_events = detect_with_times(scores, spotter.words, settings)
    decision_times = [seconds for event, seconds in timed_events if event.word == name]
    trial = Trial(scores, stream.start, stream.end)
    match_result = match_events(own, stream.end)
    return StreamResult(
        streams.dataset.clips[stream.clip],
        stream,
        None if match_result.hit is None else own[match_result.hit],
        None if match_result.hit is None else decision_times[match_result.hit],
        len(match_result.duplicates),
        tuple(event for event in detections if event.word != name)
        + tuple(own[i] for i in match_result.false_alarms),
        best_score(trial, word, settings, audio_seconds=streams.seconds),
    )


def _find_near_alarms(
    spotter: Spotter, scores: Scores, alarms: Sequence[Detection]
) -> tuple[Detection, ...]:
    """Events at half the thresholds which are none at the whole."""
    low = spotter.events.at([threshold * NEAR_FRACTION for threshold in spotter.events.threshold])
    return tuple(
        event
        for event in events(scores, spotter.words, low)
        if not any(
            alarm.word == event.word and abs(alarm.peak - event.peak) < _NEAR_SECONDS
            for alarm in alarms
        )
    )
