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
from kws.runtime.spotter import Spotter, join
from kws.training.data.clips import NO_SOUND, QUIETEST, Clip, peak
from kws.training.evaluate.matching import alarm_counts, best_score, match
from kws.training.evaluate.scored_words import Trial, decisions, events
from kws.training.evaluate.test_streams import Stream, Streams

NEAR = 0.5  # of the threshold: what comes this near is kept to be listened to
_WAITING = 4  # pieces of work per worker that may be under way
_NEAR_SECONDS = 1.0

Work = TypeVar("Work")
Done = TypeVar("Done")
Progress = Callable[[Iterable[Done], int], Iterable[Done]]  # shows how many of a number are done


@dataclass(frozen=True)
class Heard:
    """One stream of a word: what happens at the model's own threshold, and what would at others."""

    clip: Clip
    stream: Stream
    event: Detection | None  # the hit
    decided: float | None  # when it was known, in seconds of the stream
    doubles: int
    alarms: tuple[Detection, ...]  # of this word outside its place, and of any other word
    best: float  # the highest threshold at which the word is found


@dataclass(frozen=True)
class Listened:
    """One recording without the words: `counts` [W, T] of events at each threshold, and those at
    the model's own."""

    path: Path
    seconds: float
    counts: np.ndarray
    alarms: tuple[Detection, ...]
    near: tuple[Detection, ...]  # what would be an event at a lower threshold


def hear(spotter: Spotter, blocks: Iterable[np.ndarray]) -> tuple[Scores, list[Detection]]:
    """All scores and events of some audio. Raises AudioError where the blocks do."""
    stream, parts = spotter.stream(), []
    found = list(stream.listen(blocks, lambda stream, _: parts.append(stream.scores)))
    return join([*parts, stream.scores]), found


def hear_streams(spotter: Spotter, word: int, streams: Streams, progress: Progress) -> list[Heard]:
    """Hears every stream of word number `word`."""

    def one(stream: Stream) -> Heard:
        return _heard(spotter, word, streams, stream)

    return list(progress(side_by_side(one, streams.all), len(streams.all)))


def hear_recordings(
    spotter: Spotter,
    clips: Sequence[Clip],
    thresholds: Sequence[float],
    warn: Callable[[str], None],
    progress: Progress,
) -> list[Listened]:
    """Hears recordings in which no word is said. Those that cannot be read to the end are named
    with `warn` and left out."""

    stopped = Event()

    def one(clip: Clip) -> Listened | str:
        try:
            return hear_recording(spotter, clip.path, thresholds, stopped)
        except AudioError as error:
            return f"left out: {error}"

    results = list(progress(side_by_side(one, clips, stopped), len(clips)))
    for result in results:
        if isinstance(result, str):
            warn(result)
    return [result for result in results if isinstance(result, Listened)]


def hear_recording(
    spotter: Spotter, path: Path, thresholds: Sequence[float], stopped: Event | None = None
) -> Listened:
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

    scores, alarms = hear(spotter, counted(_until(stopped, recordings.blocks(path))))
    if loudest <= QUIETEST:
        raise AudioError(f"{path}: {NO_SOUND}")
    words = range(len(spotter.words))
    counts = np.stack([alarm_counts(scores, word, thresholds, spotter.events) for word in words])
    return Listened(
        path,
        sum(lengths) / recordings.SAMPLE_RATE,
        counts,
        tuple(alarms),
        _near(spotter, scores, alarms),
    )


def side_by_side(
    work: Callable[[Work], Done], items: Iterable[Work], stopped: Event | None = None
) -> Iterator[Done]:
    """Results in the order of `items`, on all cores. When the reader stops, at most the pieces
    under way are finished; long ones may look at `stopped`."""
    workers = os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)
    try:
        items = iter(items)
        under_way = [pool.submit(work, item) for item in islice(items, _WAITING * workers)]
        while under_way:
            yield under_way.pop(0).result()
            under_way += [pool.submit(work, item) for item in islice(items, 1)]
    finally:
        if stopped:
            stopped.set()
        pool.shutdown(cancel_futures=True)


def _until(stopped: Event | None, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks until someone has stopped, as with Ctrl-C: of a long recording nobody waits for
    the rest."""
    return takewhile(lambda _: not (stopped and stopped.is_set()), blocks)


def _heard(spotter: Spotter, word: int, streams: Streams, stream: Stream) -> Heard:
    scores, found = hear(spotter, [streams.audio(stream)])
    settings, name = spotter.events, spotter.words[word]
    own = [event for event in found if event.word == name]
    made = decisions(scores, spotter.words, settings)
    known = [seconds for event, seconds in made if event.word == name]
    trial = Trial(scores, stream.start, stream.end)
    matched = match(own, stream.end)
    return Heard(
        streams.bank.clips[stream.clip],
        stream,
        None if matched.hit is None else own[matched.hit],
        None if matched.hit is None else known[matched.hit],
        len(matched.doubles),
        tuple(event for event in found if event.word != name)
        + tuple(own[i] for i in matched.outside),
        best_score(trial, word, settings, audio_seconds=streams.seconds),
    )


def _near(spotter: Spotter, scores: Scores, alarms: Sequence[Detection]) -> tuple[Detection, ...]:
    """Events at half the thresholds which are none at the whole."""
    low = spotter.events.at([threshold * NEAR for threshold in spotter.events.threshold])
    return tuple(
        event
        for event in events(scores, spotter.words, low)
        if not any(
            alarm.word == event.word and abs(alarm.peak - event.peak) < _NEAR_SECONDS
            for alarm in alarms
        )
    )
