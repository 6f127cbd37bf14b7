"""The main interface: load a model, then detect words in files, arrays or live audio.

    spotter = Spotter.load("welcome")
    for event in spotter.detect("meeting.flac"):
        print(event.word, event.start, event.end, event.score)

    stream = spotter.stream()
    for samples in microphone:  # float32 or int16, 16 kHz mono, any length
        for event in stream.feed(samples):
            print(event.word, event.end)

`detect` feeds a file in blocks to the same `Stream` that serves a microphone.
"""

import os
from collections.abc import Iterator, Sequence
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

# Silence fed after the last sample, so that a word at the very end is still detected: its score may
# peak 0.4 s after its end, and the event is known 0.12 s after the peak.
FLUSH_SECONDS = 0.8
BLOCK_SECONDS = 10.0


class Spotter:
    """A loaded model and its event settings. A Spotter holds no state of a stream, so it serves any
    number of them.

    A Spotter can be pickled and sent to another process, which loads the model file again at the
    first use. A pickled Stream goes on where it was.
    """

    sample_rate = recordings.SAMPLE_RATE

    def __init__(self, engine: Engine, events: EventSettings):
        self.engine = engine
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

        `threshold` (above 0, at most 1; for all words) or `false_alarms_per_hour` (looked up in the
        calibration in the model file) replaces the model's own threshold.

        Raises ModelError for a model that is missing, damaged or not calibrated for so low a rate;
        KwsError for a threshold out of range, or where both are given.
        """
        engine = Engine.load(model, device)
        return cls(engine, _choose_settings(engine.info, threshold, false_alarms_per_hour))

    @property
    def info(self) -> "ModelInfo":
        return self.engine.info

    @property
    def words(self) -> tuple[str, ...]:
        return self.info.words

    def stream(self) -> "Stream":
        """A new stream; before its first sample there is silence."""
        return Stream(self)

    def detect(
        self,
        recording: str | os.PathLike[str] | np.ndarray,
        sample_rate: int | None = None,
        *,
        channel: int | None = None,
        track: int | None = None,
    ) -> Iterator[Detection]:
        """Events of a recording, as they are found.

        recording: a path, or samples [N] or [N, channels] (float in ±1, or int16) at `sample_rate`
        (default: 16 kHz). channel: use this channel, counted from 1, instead of the mean of all.
        track: use this audio track of a file, counted from 1, instead of the first.

        Raises AudioError for other types, and for a recording that cannot be read. For a damaged
        recording it is raised after the events of all that can be read. Samples that are not finite
        count as damage and are replaced by silence.
        """
        rate = self.sample_rate if sample_rate is None else sample_rate
        stream, fault = self.stream(), None
        try:
            for block in _blocks(recording, rate, recordings.Selection(channel, track)):
                yield from stream.feed(block)
        except AudioError as error:
            fault = error
        yield from stream.finish()
        if fault:
            raise fault

    def scores(self, samples: np.ndarray) -> Scores:
        """The scores of all frames of samples [N] (16 kHz mono), for plots and evaluation.

        Raises AudioError for samples that are not finite.
        """
        stream = self.stream()
        parts = []
        for block in _blocks(samples, self.sample_rate):
            stream.feed(block)
            parts.append(stream.scores)
        return concatenate_scores(parts)


class Stream:
    """A stream of audio.

    scores: the frames of the latest `feed` or `finish`. invalid_samples: how many samples so far
    were not finite or far beyond full scale, and were replaced by silence.
    """

    def __init__(self, spotter: Spotter):
        self._engine = spotter.engine
        self._frame_seconds = spotter.info.frame_seconds
        self._postprocessor = DetectionPostprocessor(spotter.words, spotter.events)
        self._state = spotter.engine.initial_state()
        self._frames_seen = 0
        self._samples_fed = 0
        self.invalid_samples = 0
        self._finished = False
        no_scores = np.zeros((0, len(spotter.words)))
        self.scores = Scores(np.zeros(0), no_scores, no_scores, np.zeros((*no_scores.shape, 2)))

    @property
    def seconds(self) -> float:
        """Length of the audio fed so far."""
        return self._samples_fed / Spotter.sample_rate

    def feed(self, samples: np.ndarray) -> list[Detection]:
        """Events that these samples complete.

        samples [n]: float in ±1 or int16, 16 kHz mono, any n. Raises AudioError for other types and
        shapes, KwsError for a stream that is finished.
        """
        if self._finished:
            raise KwsError("this stream is finished. Start a new one with Spotter.stream().")
        samples = _as_float32(samples)
        if samples.ndim != 1:
            raise AudioError(
                f"a stream takes mono samples of shape [n], got {list(samples.shape)}. "
                "Average the channels first."
            )
        self._samples_fed += len(samples)
        invalid = recordings.find_invalid_samples(samples)
        if invalid is not None:
            self.invalid_samples += int(invalid.sum())
            samples = np.where(invalid, np.float32(0), samples)
        return self._advance(samples)

    def finish(self) -> list[Detection]:
        """Events that are still undecided at the end of the audio. The stream takes no more
        samples; to finish it again gives no events."""
        if self._finished:
            return []
        self._finished = True
        return self._advance(np.zeros(int(FLUSH_SECONDS * Spotter.sample_rate), np.float32))

    def _advance(self, samples: np.ndarray) -> list[Detection]:
        # In blocks, for a step takes memory in proportion to its audio.
        block_samples, parts = int(BLOCK_SECONDS * Spotter.sample_rate), []
        for at in range(0, max(len(samples), 1), block_samples):
            step, self._state = self._engine.step(
                samples[None, at : at + block_samples], self._state
            )
            parts.append(scores_from_step(step, self._frames_seen, self._frame_seconds))
            self._frames_seen += len(parts[-1].times)
        self.scores = concatenate_scores(parts)
        return [self._clip_to_audio(event) for event in self._postprocessor.feed(self.scores)]

    def _clip_to_audio(self, event: Detection) -> Detection:
        """The event with times within the audio, although the silence after it was fed, too."""
        end = round(self.seconds, 3)
        return replace(
            event, start=min(event.start, end), end=min(event.end, end), peak=min(event.peak, end)
        )


def scores_from_step(step: StepOutput, frames_seen: int, frame_seconds: float) -> Scores:
    """Scores of a single stream from a step, before which it had `frames_seen` frames."""
    times = np.arange(frames_seen + 1, frames_seen + 1 + step.pooled.shape[1]) * frame_seconds
    return Scores(times, step.pooled[0], step.frames[0], step.boundaries[0])


def concatenate_scores(parts: Sequence[Scores]) -> Scores:
    """Scores of consecutive frames as one."""
    if len(parts) == 1:
        return parts[0]
    return Scores(
        times=np.concatenate([part.times for part in parts]),
        pooled=np.concatenate([part.pooled for part in parts]),
        frames=np.concatenate([part.frames for part in parts]),
        boundaries=np.concatenate([part.boundaries for part in parts]),
    )


def _choose_settings(
    info: "ModelInfo", threshold: float | None, false_alarms_per_hour: float | None
) -> EventSettings:
    if threshold is not None and false_alarms_per_hour is not None:
        raise KwsError("threshold and false_alarms_per_hour exclude each other. Give one of them.")
    if threshold is not None:
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
    recording: str | os.PathLike[str] | np.ndarray,
    sample_rate: int,
    selection: recordings.Selection = recordings.DEFAULT_SELECTION,
) -> Iterator[np.ndarray]:
    """Model audio of a path or of samples."""
    if isinstance(recording, (str, os.PathLike)):
        reject_url(os.fspath(recording))
        yield from recordings.blocks(Path(recording), BLOCK_SECONDS, selection)
        return
    if selection.track is not None:
        raise KwsError("track selects a track of a file; samples have none. Leave it out.")
    _check_type(recording)
    samples = _as_float32(recording)
    _check_shape(samples)
    if not (isinstance(sample_rate, Real) and sample_rate > 0):
        raise AudioError(
            f"a sample rate of {sample_rate} Hz is impossible. Give the rate of the samples."
        )
    if not len(samples):  # an empty array has no events, while an empty file is an error
        yield np.zeros(0, np.float32)
        return
    step = int(BLOCK_SECONDS * sample_rate)
    chunks = (samples[at : at + step] for at in range(0, len(samples), step))
    yield from recordings.model_blocks(chunks, sample_rate, "samples", selection.channel)


def _check_type(recording: object) -> None:
    """Raises AudioError for what is neither a path nor samples, such as the content of a file."""
    is_content = isinstance(recording, (bytes, bytearray, memoryview))
    if isinstance(recording, Sequence) and not is_content:
        if any(isinstance(each, (str, os.PathLike)) for each in recording):
            raise AudioError(
                f"a {_type_name(recording)} of paths is no recording. Give one path at a time."
            )
    elif not hasattr(recording, "__array__"):
        raise AudioError(
            f"{_type_name(recording)} is neither a path nor samples. Give the path of a recording, "
            "or a NumPy array of samples and its sample_rate: soundfile.read(FILE) gives both, of "
            "an open file or of io.BytesIO(BYTES)."
        )


def _as_float32(samples: np.ndarray) -> np.ndarray:
    """Samples as float32 in ±1. Raises AudioError for types other than float and int16."""
    try:
        samples = np.asarray(samples)
    except (TypeError, ValueError) as error:
        raise AudioError(
            "samples must be float32 (in ±1) or int16 in one array. "
            f"This {_type_name(samples)} makes none."
        ) from error
    if samples.dtype != np.int16 and samples.dtype.kind != "f":
        hint = " Divide integers by their full scale." if samples.dtype.kind in "iu" else ""
        raise AudioError(f"samples must be float32 (in ±1) or int16, not {samples.dtype}.{hint}")
    with np.errstate(over="ignore"):  # too large for float32: infinite, and so invalid
        return to_float32(samples)


def _check_shape(samples: np.ndarray) -> None:
    """Raises AudioError for shapes other than [N] and [N, channels]. More channels than samples are
    [channels, N]: their mean over time would be a click."""
    is_mono = samples.ndim == 1
    is_multichannel = samples.ndim == 2 and (
        not len(samples) or 0 < samples.shape[1] <= len(samples)
    )
    if not (is_mono or is_multichannel):
        raise AudioError(
            f"samples have the shape [N] or [N, channels], not {list(samples.shape)}. "
            "Transpose them if channels come first."
        )


def _type_name(value: object) -> str:
    return "None" if value is None else type(value).__name__
