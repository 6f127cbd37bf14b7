"""Streams: audio comes in, events come out; one stream, or many at once.

    pool = spotter.pool()
    pool.add("kitchen")
    pool.add("hall")
    while True:
        for name, event in pool.feed({"kitchen": samples}):  # those that have new samples
            print(name, event.word, event.end)

A stream takes part in a step of the pool only where it has new samples, so a source that stalls
holds nobody up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kws.audio.formats import as_samples, to_float32
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import AudioError, KwsError
from kws.runtime.engine import Engine
from kws.runtime.output import StepOutput
from kws.runtime.postprocess import Detection, DetectionPostprocessor, EventSettings, Scores
from kws.runtime.verifier import GATE_SCORE

# Silence fed after the last sample, so that a word at the very end is still detected: its score may
# peak 0.4 s after its end, and the event is known 0.12 s after the peak.
FLUSH_SECONDS = 0.8


class Stream:
    """A stream of audio. invalid_samples: how many samples so far were not finite or far beyond
    full scale, and were replaced by silence."""

    def __init__(self, engine: Engine, events: EventSettings, *, events_only: bool = False):
        info = engine.info
        self._frame_seconds = info.frame_seconds
        self._postprocessor = DetectionPostprocessor(info.words, events, info.frame_seconds)
        gates = np.maximum(events.gates, GATE_SCORE).tolist() if events_only else None
        self.engine_stream = engine.open_stream(gates)
        self._output = self.engine_stream.step(np.zeros(0, np.float32))  # of no frames
        self._frames_seen = 0
        self._samples_fed = 0
        self.invalid_samples = 0
        self._finished = False

    @property
    def seconds(self) -> float:
        """Length of the audio fed so far."""
        return self._samples_fed / SAMPLE_RATE

    @property
    def scores(self) -> Scores:
        """The scores of the frames of the latest `feed` or `finish`."""
        pooled, frames, boundaries = self._output[:3]
        numbers = np.arange(self._frames_seen - len(pooled) + 1, self._frames_seen + 1)
        return Scores(numbers * self._frame_seconds, pooled, frames, boundaries)

    def feed(self, samples: np.ndarray) -> list[Detection]:
        """Events that these samples complete.

        samples [n]: float in ±1 or int16, 16 kHz mono, any n. Raises AudioError for other types and
        shapes, KwsError for a stream that is finished.
        """
        samples = self.check(samples)
        return self.take(self.engine_stream.step(samples), len(samples))

    def check(self, samples: np.ndarray) -> np.ndarray:
        """The samples as the engine takes them, float32 or int16. Raises what `feed` raises."""
        if self._finished:
            raise KwsError("this stream is finished. Start a new one with Spotter.stream().")
        samples = as_samples(samples)
        if samples.ndim != 1:
            raise AudioError(
                f"a stream takes mono samples of shape [n], got {list(samples.shape)}. "
                "Average the channels first."
            )
        return samples

    def finish(self) -> list[Detection]:
        """Events that are still undecided at the end of the audio. The stream takes no more
        samples; to finish it again gives no events."""
        if self._finished:
            return []
        self._finished = True
        silence = np.zeros(int(FLUSH_SECONDS * SAMPLE_RATE), np.float32)
        return self.take(self.engine_stream.step(silence), samples=0)

    def take(self, output: StepOutput, samples: int) -> list[Detection]:
        """The events of a step of `engine_stream`, which was given so many samples."""
        self._output = output
        self._samples_fed += samples
        self._frames_seen += len(output.pooled)
        self.invalid_samples += output.invalid_samples
        events = self._postprocessor.feed(output.pooled, output.boundaries)
        return [self._clip_to_audio(event) for event in events]

    def _clip_to_audio(self, event: Detection) -> Detection:
        """The event with times within the audio, although the silence after it was fed, too."""
        end = round(self.seconds, 3)
        return replace(
            event, start=min(event.start, end), end=min(event.end, end), peak=min(event.peak, end)
        )


class PoolDetection(NamedTuple):
    """An event, and the name of the stream in which it was."""

    name: str
    detection: Detection


class Pool:
    """Streams by name, stepped together on one thread. Each has the events of a `Stream`."""

    def __init__(self, engine: Engine, events: EventSettings):
        self._engine, self._events = engine, events
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, name: object) -> bool:
        return name in self._streams

    def add(self, name: str) -> None:
        """Adds a stream; before its first sample there is silence. Raises KwsError where the pool
        has one of this name."""
        if name in self._streams:
            raise KwsError(f"the pool has a stream '{name}' already. Choose another name.")
        self._streams[name] = Stream(self._engine, self._events, events_only=True)

    def feed(self, samples: Mapping[str, np.ndarray]) -> list[PoolDetection]:
        """Events that these samples complete. One call of the kernel steps all these streams.

        samples: of each stream that has new ones, as `Stream.feed` takes them. Raises KwsError for
        a name that the pool lacks, AudioError for other types and shapes; then no stream has moved.
        """
        if not samples:
            return []
        streams = [self._stream(name) for name in samples]
        blocks = [
            stream.check(samples[name]) for name, stream in zip(samples, streams, strict=True)
        ]
        if any(block.dtype != np.int16 for block in blocks):
            blocks = [to_float32(block) for block in blocks]
        engine_streams = [stream.engine_stream for stream in streams]
        outputs = self._engine.step_many(engine_streams, blocks)
        return [
            PoolDetection(name, event)
            for name, stream, output, block in zip(samples, streams, outputs, blocks, strict=True)
            for event in stream.take(output, len(block))
        ]

    def finish(self, name: str) -> list[PoolDetection]:
        """Ends a stream: events that are still undecided. Raises KwsError for a name that the pool
        lacks."""
        events = self._stream(name).finish()
        del self._streams[name]
        return [PoolDetection(name, event) for event in events]

    def _stream(self, name: str) -> Stream:
        if name not in self._streams:
            raise KwsError(f"the pool has no stream '{name}'. Add it with Pool.add().")
        return self._streams[name]


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
