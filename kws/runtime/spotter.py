"""The library's front door: load a model, then listen to files, arrays or live audio.

    spotter = Spotter.load("welcome")
    for event in spotter.detect("meeting.flac"):
        print(event.word, event.start, event.end, event.score)

A file is a stream whose samples are all there: `detect` feeds it in blocks to the same `Stream`
that serves a microphone.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kws.audio import recordings
from kws.audio.addresses import reject_url
from kws.audio.formats import to_float32
from kws.errors import AudioError, KwsError
from kws.runtime.engine import Engine, StepOutput
from kws.runtime.postprocess import Detection, DetectionPostprocessor, EventSettings, Scores

if TYPE_CHECKING:
    from kws.runtime.model_file import ModelInfo

# Silence after the last sample, so that a word that ends the recording is still decided: its score
# may peak 0.4 s after its end, and the event is known 0.12 s after the peak.
FLUSH_SECONDS = 0.8
BLOCK_SECONDS = 10.0


class Spotter:
    """A loaded model and its event settings. One Spotter serves any number of streams; it holds no
    state of theirs.

    A Spotter can be pickled, for other processes: as the path of its model, which is loaded again
    where it is first used. A Stream can be, too, and goes on there.
    """

    sample_rate = recordings.SAMPLE_RATE

    def __init__(self, model: Engine, events: EventSettings):
        self.engine = model
        self.events = events

    @classmethod
    def load(
        cls,
        model: str | Path = "welcome",
        device: str = "cpu",
        *,
        threshold: float | None = None,
        false_alarms_per_hour: float | None = None,
    ) -> "Spotter":
        """A Spotter for a model name or path.

        `threshold` (above 0, at most 1; all words) or `false_alarms_per_hour` (from the calibration
        in the model file) replaces the model's own threshold. Raises ModelError for a model that is
        missing, damaged or not calibrated well enough for the wish, KwsError for a threshold that
        is none, or both wishes.
        """
        loaded = Engine.load(model, device)
        return cls(loaded, _settings(loaded.info, threshold, false_alarms_per_hour))

    @property
    def info(self) -> "ModelInfo":
        return self.engine.info

    @property
    def words(self) -> tuple[str, ...]:
        return self.info.words

    def stream(self) -> "Stream":
        """A new stream that begins in silence."""
        return Stream(self)

    def detect(
        self,
        recording: str | os.PathLike | np.ndarray,
        sample_rate: int | None = None,
        *,
        channel: int | None = None,
        track: int | None = None,
    ) -> Iterator[Detection]:
        """Events of a recording, as they are found.

        recording: a path, or samples [N] or [N, channels] (float in ±1, or int16) at `sample_rate`
        (16 kHz when not given). channel: the one to hear, counted from 1, in place of the mean of
        all. track: the one to hear of a file with several audio tracks, counted from 1; the first
        unless told.
        Raises AudioError for anything else, where the recording cannot be read, or at its end if it
        is damaged: after all that could be heard. Samples that are not numbers are such a damage,
        and heard as silence.
        """
        rate = self.sample_rate if sample_rate is None else sample_rate
        yield from self.stream().detect_blocks(
            _blocks(recording, rate, recordings.Selection(channel, track))
        )

    def scores(self, samples: np.ndarray) -> Scores:
        """All scores of samples [N] (16 kHz mono): for plots, evaluation and other programs.

        Raises AudioError for samples that are not numbers.
        """
        stream = self.stream()
        parts = []
        for block in _blocks(samples, self.sample_rate):
            stream.feed(block)
            parts.append(stream.scores)
        return concatenate_scores(parts)


class Stream:
    """One run of audio. `scores` holds the frames made by the latest `feed` or `finish`,
    `invalid_samples` counts the samples so far that were not numbers, or beyond all bounds, and were
    taken for silence."""

    def __init__(self, spotter: Spotter):
        self._engine = spotter.engine
        self._frame_seconds = spotter.info.frame_seconds
        self._postprocessor = DetectionPostprocessor(spotter.words, spotter.events)
        self._state = spotter.engine.initial_state()
        self._frames_seen = 0
        self._samples_fed = 0
        self.invalid_samples = 0
        self._finished = False
        words = len(spotter.words)
        self.scores = Scores(
            np.zeros(0), np.zeros((0, words)), np.zeros((0, words)), np.zeros((0, words, 2))
        )

    @property
    def seconds(self) -> float:
        """Length of the audio fed so far."""
        return self._samples_fed / Spotter.sample_rate

    def feed(self, samples: np.ndarray) -> list[Detection]:
        """Events that these samples complete. samples [n]: float32 in ±1 or int16, 16 kHz mono,
        any n."""
        if self._finished:
            raise KwsError("this stream is finished; start a new one with Spotter.stream()")
        samples = _as_float32(samples)
        if samples.ndim != 1:
            raise AudioError(
                f"a stream takes mono samples of shape [n], got {list(samples.shape)}. "
                "Average the channels first."
            )
        self._samples_fed += len(samples)
        bad = recordings.find_invalid_samples(samples)
        if bad is not None:
            self.invalid_samples += int(bad.sum())
            samples = np.where(bad, np.float32(0), samples)
        return self._advance(samples)

    def finish(self) -> list[Detection]:
        """Events still open at the end of the audio. The stream takes no more samples; finishing it
        again finds nothing."""
        if self._finished:
            return []
        self._finished = True
        return self._advance(np.zeros(int(FLUSH_SECONDS * Spotter.sample_rate), np.float32))

    def detect_blocks(
        self,
        blocks: Iterable[np.ndarray],
        after_block: "Callable[[Stream, np.ndarray], None]" = lambda stream, block: None,
    ) -> Iterator[Detection]:
        """Events of all blocks, to the end. What was heard before the blocks break off in an
        AudioError is decided before it is raised."""
        deferred_error = None
        try:
            for block in blocks:
                events = self.feed(block)
                after_block(self, block)
                yield from events
        except AudioError as error:
            deferred_error = error
        yield from self.finish()
        if deferred_error:
            raise deferred_error

    def _advance(self, samples: np.ndarray) -> list[Detection]:
        size, parts = int(BLOCK_SECONDS * Spotter.sample_rate), []
        # Not at once: a step takes memory for all that it hears.
        for at in range(0, max(len(samples), 1), size):
            step, self._state = self._engine.step(samples[None, at : at + size], self._state)
            parts.append(scores_from_step(step, self._frames_seen, self._frame_seconds))
            self._frames_seen += len(parts[-1].times)
        self.scores = parts[0] if len(parts) == 1 else concatenate_scores(parts)
        return [self._clip_to_audio(event) for event in self._postprocessor.feed(self.scores)]

    def _clip_to_audio(self, event: Detection) -> Detection:
        """Nothing ends after the audio does, though the decision may have needed silence
        after it."""
        end = round(self.seconds, 3)
        return replace(
            event, start=min(event.start, end), end=min(event.end, end), peak=min(event.peak, end)
        )


def scores_from_step(step: StepOutput, frames_seen: int, frame_seconds: float) -> Scores:
    """The scores of one stream, which had `frames_seen` frames before this step."""
    times = np.arange(frames_seen + 1, frames_seen + 1 + step.pooled.shape[1]) * frame_seconds
    return Scores(times, step.pooled[0], step.frames[0], step.boundaries[0])


def concatenate_scores(parts: Iterable[Scores]) -> Scores:
    """Scores of consecutive portions as one."""
    parts = list(parts)
    return Scores(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("times", "pooled", "frames", "boundaries")
        )
    )


def _as_float32(samples: np.ndarray) -> np.ndarray:
    """Samples as float32 in ±1; int16 is scaled. Raises AudioError for what is neither."""
    try:
        samples = np.asarray(samples)
    except (TypeError, ValueError) as error:
        kind = _kind(samples)
        raise AudioError(
            f"samples must be float32 (in ±1) or int16 in one array. This {kind} makes none."
        ) from error
    if samples.dtype != np.int16 and samples.dtype.kind != "f":
        hint = " Divide integers by their full scale." if samples.dtype.kind in "iu" else ""
        raise AudioError(f"samples must be float32 (in ±1) or int16, not {samples.dtype}.{hint}")
    with np.errstate(over="ignore"):  # what is beyond all bounds becomes infinite
        return to_float32(samples)


def _settings(
    info: "ModelInfo", threshold: float | None, false_alarms_per_hour: float | None
) -> EventSettings:
    if threshold is not None:
        if false_alarms_per_hour is not None:
            raise KwsError(
                "threshold and false_alarms_per_hour exclude each other. Give one of them."
            )
        if not 0 < threshold <= 1:
            raise KwsError(
                f"a threshold of {threshold:g}: scores lie between 0 and 1. "
                "Give a number above 0, and at most 1."
            )
        return info.events.at((threshold,) * len(info.words))
    if false_alarms_per_hour is not None:
        return info.events.at(info.thresholds_for(false_alarms_per_hour))
    return info.events


def _blocks(
    recording: str | os.PathLike | np.ndarray,
    sample_rate: int,
    selection: recordings.Selection = recordings.DEFAULT_SELECTION,
) -> Iterator[np.ndarray]:
    if isinstance(recording, (str, os.PathLike)):
        reject_url(os.fspath(recording))
        yield from recordings.blocks(Path(recording), BLOCK_SECONDS, selection)
        return
    if selection.track is not None:
        raise KwsError("track chooses among those of a file; samples have none. Leave it out.")
    _check_kind(recording)
    samples = _as_float32(recording)
    _check_shape(samples)
    if not (isinstance(sample_rate, Real) and sample_rate > 0):
        raise AudioError(
            f"a sample rate of {sample_rate} Hz: there is no such sound. "
            "Give the rate of the samples."
        )
    if not len(samples):
        yield np.zeros(0, np.float32)  # no time, no events: unlike a file, not a mishap
        return
    step = int(BLOCK_SECONDS * sample_rate)
    chunks = (samples[at : at + step] for at in range(0, len(samples), step))
    yield from recordings.model_blocks(chunks, sample_rate, "samples", selection.channel)


def _check_kind(recording: object) -> None:
    """Raises AudioError for what is neither a path nor samples, though it may hold either."""
    content = isinstance(recording, (bytes, bytearray, memoryview))
    if isinstance(recording, Sequence) and not content:
        if any(isinstance(each, (str, os.PathLike)) for each in recording):
            raise AudioError(
                f"a {_kind(recording)} of paths is no recording. Give one path at a time."
            )
    elif not hasattr(recording, "__array__"):
        raise AudioError(
            f"{_kind(recording)} is neither a path nor samples. "
            "Give the path of a recording, or a NumPy "
            "array of samples and its sample_rate: soundfile.read(FILE) gives both, of an open "
            "file or of io.BytesIO(BYTES)."
        )


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _check_shape(samples: np.ndarray) -> None:
    """Raises AudioError for what cannot be [N] or [N, channels]: channels averaged over time would
    be heard as a click."""
    if samples.ndim not in (1, 2) or (
        len(samples) and samples.ndim == 2 and not 0 < samples.shape[1] <= len(samples)
    ):
        raise AudioError(
            f"samples have the shape [N] or [N, channels], not {list(samples.shape)}. "
            "Transpose them if channels come first."
        )
