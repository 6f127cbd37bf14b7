"""Recordings and pipes as model audio: float32 mono samples at 16 kHz, in blocks, so that ten hours
need no more memory than ten seconds.

A damaged recording is read as far as possible. AudioError is raised after its last block, so the
caller has all the audio before it learns of the damage.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kws.audio.channels import Downmix
from kws.audio.decoders import Chunk, open_recording
from kws.audio.file_signatures import HEAD_BYTES, has_audio_signature
from kws.audio.formats import RAW_FORMATS, to_float32
from kws.audio.formats import SAMPLE_RATE as SAMPLE_RATE
from kws.errors import AudioError

if TYPE_CHECKING:
    import soxr

_VALID_SAMPLE_RATES = range(1_000, 1_000_001)  # other rates come from damaged headers
_MAX_ABS_SAMPLE = 1e6  # the square of far larger samples would overflow in the network


@dataclass(frozen=True)
class Selection:
    """Which part of a recording is used. `channel`: this channel instead of the mean of all;
    `track`: this audio track instead of the first. Both are counted from 1. Raises AudioError for
    other numbers."""

    channel: int | None = None
    track: int | None = None

    def __post_init__(self) -> None:
        for name, number in (("channel", self.channel), ("track", self.track)):
            if number is not None and not (isinstance(number, int) and number >= 1):
                raise AudioError(f"{name} {number!r}: give a whole number, counted from 1.")


DEFAULT_SELECTION = Selection()


def blocks(
    path: Path | str, block_seconds: float = 10.0, selection: Selection = DEFAULT_SELECTION
) -> Iterator[np.ndarray]:
    """Samples of a recording as float32 mono 16 kHz blocks [n] of about `block_seconds` or less.
    Channels are averaged (see `kws.audio.channels`).

    Raises AudioError as `stream_blocks` does.
    """
    return map(to_float32, stream_blocks(path, block_seconds, selection))


def stream_blocks(
    path: Path | str, block_seconds: float = 10.0, selection: Selection = DEFAULT_SELECTION
) -> Iterator[np.ndarray]:
    """The same as a stream takes them (`kws.runtime.stream.Stream.feed`): as int16 where the
    recording holds mono 16 kHz samples of 16 bits, which saves two conversions.

    Raises AudioError where nothing can be read. After the last block it is raised for a recording
    that ends before its header says, is damaged, has no samples, or has invalid samples, which are
    replaced by silence.
    """
    with open_recording(Path(path), block_seconds, track=selection.track) as recording:
        yield from _convert_chunks(recording.chunks, str(path), selection.channel)


def read(path: Path | str) -> np.ndarray:
    """A whole recording as float32 mono 16 kHz samples [n]. Raises AudioError as `blocks` does."""
    return np.concatenate(list(blocks(path)))


def read_excerpt(
    path: Path | str,
    start_seconds: float,
    end_seconds: float,
    selection: Selection = DEFAULT_SELECTION,
) -> np.ndarray:
    """The samples [n] of a recording between two times, float32 mono 16 kHz; fewer where the
    recording ends.

    Damage is ignored: `blocks` reports it. Raises AudioError where nothing can be read.
    """
    return ExcerptReader(path, selection).cut(start_seconds, end_seconds)


class ExcerptReader:
    """Cuts excerpts from one recording. Most compressed formats cannot seek; there one pass serves
    all excerpts whose starts do not decrease."""

    def __init__(self, path: Path | str, selection: Selection = DEFAULT_SELECTION):
        self.path = Path(path)
        self._selection = selection
        self._blocks: Iterator[np.ndarray] = iter(())
        self._buffer = _SampleBuffer(0)
        self._is_sequential = False

    def cut(self, start_seconds: float, end_seconds: float) -> np.ndarray:
        """As `read_excerpt`."""
        first, last = round(start_seconds * SAMPLE_RATE), round(end_seconds * SAMPLE_RATE)
        if not self._is_sequential or first < self._buffer.start:
            self._open(start_seconds, end_seconds - start_seconds)
            self._buffer = _SampleBuffer(first)
        self._buffer.drop_before(first)
        with suppress(AudioError):
            while self._buffer.end < last and (block := next(self._blocks, None)) is not None:
                self._buffer.append(block)
                self._buffer.drop_before(first)
        return self._buffer.samples[: last - first]

    def _open(self, start_seconds: float, block_seconds: float) -> None:
        stack = ExitStack()
        recording = stack.enter_context(
            open_recording(self.path, block_seconds, start_seconds, self._selection.track)
        )
        self._is_sequential = not recording.can_seek
        chunks, channel = recording.chunks, self._selection.channel
        blocks = map(to_float32, _convert_chunks(chunks, str(self.path), channel))
        self._blocks = _close_after(blocks, stack)


class _SampleBuffer:
    """Consecutive samples of a recording, from number `start` on."""

    def __init__(self, start: int):
        self.start = start
        self.samples = np.zeros(0, np.float32)

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    def append(self, block: np.ndarray) -> None:
        self.samples = np.concatenate([self.samples, block])

    def drop_before(self, sample: int) -> None:
        """Drops all samples before a number."""
        dropped = min(max(sample - self.start, 0), len(self.samples))
        self.start += dropped
        self.samples = self.samples[dropped:]


def duration_seconds(path: Path | str) -> float | None:
    """Duration in the header of a recording: None where only decoding would show it, 0 where the
    file cannot be decoded."""
    try:
        with open_recording(Path(path), 1.0) as recording:
            return recording.seconds
    except AudioError:
        return 0.0


def raw_blocks(
    stream: BufferedIOBase,
    rate: int = SAMPLE_RATE,
    encoding: str = "s16le",
    block_seconds: float = 0.08,
) -> Iterator[np.ndarray]:
    """Raw mono PCM from a pipe as mono 16 kHz blocks [n], float32 or int16, each as soon as it
    arrives. encoding: one of RAW_FORMATS.

    Raises AudioError for a pipe that holds a file. After the last block it is raised where there
    were no samples, or invalid ones.
    """
    dtype = RAW_FORMATS[encoding]
    block_bytes = max(1, round(block_seconds * rate)) * dtype.itemsize
    yield from model_blocks(_raw_chunks(stream, dtype, block_bytes), rate, "standard input")


def model_blocks(
    chunks: Iterable[np.ndarray], rate: int, source_name: str, channel: int | None = None
) -> Iterator[np.ndarray]:
    """Chunks [n] or [n, channels] at `rate` Hz, float32 or int16, as mono 16 kHz blocks [n].
    `source_name` stands in errors; `channel`, counted from 1, is used instead of the mean.

    Raises AudioError after the last block, as `blocks` does.
    """
    return _convert_chunks((Chunk(chunk, rate) for chunk in chunks), source_name, channel)


def find_invalid_samples(samples: np.ndarray) -> np.ndarray | None:
    """A mask of the samples that are not finite or far beyond full scale; None if there are
    none."""
    # The comparisons are false for NaN.
    if not samples.size or (samples.min() >= -_MAX_ABS_SAMPLE and samples.max() <= _MAX_ABS_SAMPLE):
        return None
    valid: np.ndarray = np.abs(samples) <= _MAX_ABS_SAMPLE
    return ~valid


def _close_after(blocks: Iterator[np.ndarray], stack: ExitStack) -> Iterator[np.ndarray]:
    with stack:
        yield from blocks


def _convert_chunks(
    chunks: Iterable[Chunk], source_name: str, channel: int | None
) -> Iterator[np.ndarray]:
    converter = _ChunkConverter(source_name, channel)
    fault = None
    try:
        for chunk in chunks:
            yield from converter.feed(chunk)
    except AudioError as error:
        fault = error
    yield from converter.finish()
    fault = fault or converter.fault()
    if fault:
        raise fault


def _raw_chunks(stream: BufferedIOBase, dtype: np.dtype, block_bytes: int) -> Iterator[np.ndarray]:
    head = b""  # the first bytes, up to HEAD_BYTES
    partial_sample = b""  # bytes of a sample of which the rest has not arrived
    while data := _read_available(stream, block_bytes):
        if len(head) < HEAD_BYTES:
            head += data
            _check_raw_pcm(head)
        data = partial_sample + data
        whole_bytes = len(data) - len(data) % dtype.itemsize
        partial_sample = data[whole_bytes:]
        yield np.frombuffer(data[:whole_bytes], dtype)


def _check_raw_pcm(head: bytes) -> None:
    """Raises AudioError for the first bytes of a file."""
    if has_audio_signature(head):
        raise AudioError(
            "standard input: a file, not raw samples. "
            "Give it to kws detect -, or decode it: ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -"
        )


def _read_available(stream: BufferedIOBase, max_bytes: int) -> bytes:
    try:
        return stream.read1(max_bytes)
    except OSError as error:
        raise AudioError(
            f"standard input: cannot be read ({error.strerror}). Pipe raw audio into it."
        ) from error


def _open_resampler(rate: int) -> "soxr.ResampleStream":
    import soxr  # takes 3 ms to load, and audio at 16 kHz does not need it

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1)


class _ChunkConverter:
    """Makes model audio of the chunks of one source: replaces invalid samples, mixes channels,
    resamples. Int16 samples for which nothing is left to do stay int16. It starts anew where the
    sample rate or the number of channels changes, as in concatenated files."""

    def __init__(self, source_name: str, channel: int | None):
        self._source_name, self._channel = source_name, channel
        self._layout: tuple[int, tuple[int, ...]] | None = None
        self._input_seconds = 0.0
        self._output_samples = 0
        self._invalid_samples = 0
        self._first_invalid_seconds = 0.0

    def feed(self, chunk: Chunk) -> Iterator[np.ndarray]:
        """Raises AudioError for an impossible sample rate and a missing channel."""
        layout = chunk.rate, chunk.samples.shape[1:]
        if layout != self._layout:
            yield from self.finish()
            self._configure(chunk.rate)
            self._layout = layout
        is_mono = chunk.samples.ndim == 1 or chunk.samples.shape[1] == 1
        is_model_audio = is_mono and self._resampler is None and chunk.samples.dtype == np.int16
        samples = chunk.samples if is_model_audio else self._zero_invalid(chunk)
        self._input_seconds += len(samples) / chunk.rate
        yield from self._resample(self._downmix.feed(samples))

    def finish(self) -> Iterator[np.ndarray]:
        """The samples that are still in the filters."""
        if self._layout is not None:
            yield from self._resample(self._downmix.finish(), last=True)
            self._layout = None

    def fault(self) -> AudioError | None:
        """What was wrong with the samples."""
        if not self._output_samples:  # one sample at 44.1 kHz is less than half of one at 16 kHz
            return AudioError(f"{self._source_name}: no samples in it. Record or copy it again.")
        if self._invalid_samples:
            return AudioError(
                f"{self._source_name}: {self._invalid_samples} samples are invalid (not finite, or "
                f"far beyond full scale), the first at {self._first_invalid_seconds:.2f} s. They "
                "were replaced by silence. Write the recording again."
            )
        return None

    def _configure(self, rate: int) -> None:
        if rate not in _VALID_SAMPLE_RATES:
            raise AudioError(
                f"{self._source_name}: a sample rate of {rate} Hz cannot be right. "
                "Check the file, or convert it."
            )
        self._downmix = Downmix(rate, self._channel, self._source_name)
        self._resampler = None if rate == SAMPLE_RATE else _open_resampler(rate)

    def _resample(self, mono: np.ndarray, *, last: bool = False) -> Iterator[np.ndarray]:
        if self._resampler is not None and (len(mono) or last):
            mono = self._resampler.resample_chunk(mono, last=last)
        if len(mono):
            self._output_samples += len(mono)
            yield mono

    def _zero_invalid(self, chunk: Chunk) -> np.ndarray:
        samples = to_float32(chunk.samples)
        invalid = find_invalid_samples(samples)
        if invalid is None:
            return samples
        if not self._invalid_samples:
            first = int(np.flatnonzero(invalid.reshape(len(invalid), -1).any(axis=1))[0])
            self._first_invalid_seconds = self._input_seconds + first / chunk.rate
        self._invalid_samples += int(invalid.sum())
        return np.where(invalid, np.float32(0), samples)
