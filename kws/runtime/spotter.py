"""The main interface: load a model, then detect words in files, arrays or live audio.

    spotter = Spotter.load("welcome")
    for event in spotter.detect("meeting.flac"):
        print(event.word, event.start, event.end, event.score)

    stream = spotter.stream()
    for samples in microphone:  # float32 or int16, 16 kHz mono, any length
        for event in stream.feed(samples):
            print(event.word, event.end)

`detect` feeds a file in blocks to the `Stream` that serves a microphone, too.
"""

import os
from collections.abc import Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kws.audio import recordings
from kws.audio.addresses import reject_url
from kws.audio.formats import as_samples, to_float32, type_name
from kws.errors import AudioError, KwsError
from kws.runtime.engine import Engine
from kws.runtime.postprocess import Detection, EventSettings, Scores
from kws.runtime.stream import Pool, Stream, concatenate_scores

if TYPE_CHECKING:
    from kws.runtime.model_file import ModelInfo

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

    def stream(self, *, events_only: bool = False) -> "Stream":
        """A new stream; before its first sample there is silence.

        events_only: ask the verifier only where its answer may change an event. The events are the
        same and take less work; the lower scores of the stream remain unverified.
        """
        return Stream(self.engine, self.events, events_only=events_only)

    def pool(self) -> Pool:
        """A pool of streams that are stepped together; `Pool.add` adds one."""
        return Pool(self.engine, self.events)

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
        stream, fault = self.stream(events_only=True), None
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
        yield from recordings.stream_blocks(Path(recording), BLOCK_SECONDS, selection)
        return
    if selection.track is not None:
        raise KwsError("track selects a track of a file; samples have none. Leave it out.")
    _check_type(recording)
    samples = to_float32(as_samples(recording))
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
                f"a {type_name(recording)} of paths is no recording. Give one path at a time."
            )
    elif not hasattr(recording, "__array__"):
        raise AudioError(
            f"{type_name(recording)} is neither a path nor samples. Give the path of a recording, "
            "or a NumPy array of samples and its sample_rate: soundfile.read(FILE) gives both, of "
            "an open file or of io.BytesIO(BYTES)."
        )


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
