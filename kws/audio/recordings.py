"""Recordings and pipes as model audio: float32 mono samples at 16 kHz, block by block, so that ten
hours need no more memory than ten seconds.

A damaged recording is read as far as it goes and raises AudioError only then: whoever takes the
blocks has heard everything there was to hear before the fault is told.
"""

from collections.abc import Iterator
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
from kws.errors import AudioError

if TYPE_CHECKING:
    import soxr

SAMPLE_RATE = 16_000

_VALID_SAMPLE_RATES = range(1_000, 1_000_001)  # anything else is a damaged header
# Full scale is 1; the square of a sample far beyond this no longer fits the network's numbers.
_MAX_ABS_SAMPLE = 1e6


@dataclass(frozen=True)
class Selection:
    """What of a recording is heard. `channel`: one of its channels alone; `track`: one of several
    audio tracks, the first unless told. Both are counted from 1."""

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
    """Samples of a recording as float32 mono 16 kHz blocks [n] of at most about `block_seconds`;
    channels are averaged (`kws.audio.channels`).

    Raises AudioError when nothing can be read; and, after the last block, when the recording ends
    before its header says, is damaged, has no samples, or holds samples that are not numbers (they
    are given as silence).
    """
    return _read_blocks(Path(path), 0.0, block_seconds, selection)


def read(path: Path | str) -> np.ndarray:
    """The whole recording as float32 mono 16 kHz samples [n]. Raises AudioError like `blocks`."""
    return np.concatenate(list(blocks(path)))


def read_excerpt(
    path: Path | str,
    start_seconds: float,
    end_seconds: float,
    selection: Selection = DEFAULT_SELECTION,
) -> np.ndarray:
    """The part of a recording between two times as float32 mono 16 kHz samples [n], shorter where
    the recording ends.

    Faults of the recording are left to `blocks` to tell. Raises AudioError when nothing can
    be read.
    """
    return ExcerptReader(path, selection).cut(start_seconds, end_seconds)


class ExcerptReader:
    """Excerpts of one recording. In most compressed formats a place is found only by decoding all
    before it: there, one pass serves all excerpts that do not begin before the one cut last."""

    def __init__(self, path: Path | str, selection: Selection = DEFAULT_SELECTION):
        self.path = Path(path)
        self._selection = selection
        self._blocks: Iterator[np.ndarray] = iter(())
        # Samples read, and the number of the one after them.
        self._buffer, self._buffer_end = np.zeros(0, np.float32), 0
        self._is_sequential = False

    def cut(self, start_seconds: float, end_seconds: float) -> np.ndarray:
        """As `read_excerpt`."""
        first, last = round(start_seconds * SAMPLE_RATE), round(end_seconds * SAMPLE_RATE)
        if not self._is_sequential or first < self._buffer_end - len(self._buffer):
            self._open(start_seconds, end_seconds - start_seconds)
            self._buffer, self._buffer_end = np.zeros(0, np.float32), first
        self._discard_before(first)
        with suppress(AudioError):
            while self._buffer_end < last and (block := next(self._blocks, None)) is not None:
                self._buffer, self._buffer_end = (
                    np.concatenate([self._buffer, block]),
                    self._buffer_end + len(block),
                )
                self._discard_before(first)
        return self._buffer[: last - first]

    def _open(self, start_seconds: float, block_seconds: float) -> None:
        stack = ExitStack()
        recording = stack.enter_context(
            open_recording(self.path, block_seconds, start_seconds, self._selection.track)
        )
        self._is_sequential = not recording.can_seek
        self._blocks = _closing(
            stack, _resampled_blocks(recording.chunks, str(self.path), self._selection.channel)
        )

    def _discard_before(self, sample: int) -> None:
        self._buffer = self._buffer[max(sample - (self._buffer_end - len(self._buffer)), 0) :]


def duration_seconds(path: Path | str) -> float | None:
    """Length that the recording's header promises: None where only decoding would tell, 0 where
    there is nothing to decode."""
    try:
        with open_recording(Path(path), 1.0) as recording:
            return recording.seconds
    except AudioError:
        return 0.0


def _read_blocks(
    path: Path, start_seconds: float, block_seconds: float, selection: Selection
) -> Iterator[np.ndarray]:
    with open_recording(path, block_seconds, start_seconds, selection.track) as recording:
        yield from _resampled_blocks(recording.chunks, str(path), selection.channel)


def _closing(stack: ExitStack, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    with stack:
        yield from blocks


def raw_blocks(
    stream: BufferedIOBase,
    rate: int = SAMPLE_RATE,
    encoding: str = "s16le",
    block_seconds: float = 0.08,
) -> Iterator[np.ndarray]:
    """Raw mono PCM from a pipe as float32 mono 16 kHz blocks [n], each as soon as it arrives.
    `encoding` is one of RAW_FORMATS.

    Raises AudioError after the last block when nothing came or samples were not numbers.
    """
    dtype = RAW_FORMATS[encoding]
    block_bytes = max(1, round(block_seconds * rate)) * dtype.itemsize
    yield from model_blocks(_raw_chunks(stream, dtype, block_bytes), rate, "standard input")


def model_blocks(
    chunks: Iterator[np.ndarray], rate: int, where: str, channel: int | None = None
) -> Iterator[np.ndarray]:
    """Float32 chunks [n] or [n, channels] at `rate` Hz as model audio [n]. `where` names their
    source in errors; `channel`, counted from 1, is heard alone.

    Raises AudioError after the last block, like `blocks`.
    """
    return _resampled_blocks((Chunk(chunk, rate) for chunk in chunks), where, channel)


def _resampled_blocks(
    chunks: Iterator[Chunk], where: str, channel: int | None
) -> Iterator[np.ndarray]:
    converter = _ChunkConverter(where, channel)
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


def find_invalid_samples(samples: np.ndarray) -> np.ndarray | None:
    """Which samples are not numbers, or are beyond all bounds; None where none is."""
    # False also for NaN.
    if not samples.size or (samples.min() >= -_MAX_ABS_SAMPLE and samples.max() <= _MAX_ABS_SAMPLE):
        return None
    return ~(np.abs(samples) <= _MAX_ABS_SAMPLE)


def _raw_chunks(stream: BufferedIOBase, dtype: np.dtype, block_bytes: int) -> Iterator[np.ndarray]:
    # What came first, up to HEAD_BYTES; bytes of a sample that has not arrived in full.
    head, partial_sample = b"", b""
    while data := _read_available(stream, block_bytes):
        if len(head) < HEAD_BYTES:
            head += data
            _check_raw_pcm(head)
        data = partial_sample + data
        whole_bytes = len(data) // dtype.itemsize * dtype.itemsize
        partial_sample = data[whole_bytes:]
        yield to_float32(np.frombuffer(data[:whole_bytes], dtype))


def _check_raw_pcm(head: bytes) -> None:
    """Raises AudioError for the beginning of a file."""
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


def _resampler(rate: int) -> "soxr.ResampleStream":
    import soxr  # takes 3 ms to load, of which audio at the model's rate needs nothing

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1)


class _ChunkConverter:
    """Cleans, mixes and resamples the chunks of one source, and remembers what was wrong with them.
    Where their rate or the number of their channels changes, as in files put one after the other,
    it begins anew."""

    def __init__(self, where: str, channel: int | None):
        self._source_name, self._channel = where, channel
        self._layout: tuple[int, tuple[int, ...]] | None = None
        self._input_seconds = 0.0  # that came in
        self._output_samples = 0
        self._invalid_samples = 0
        self._first_invalid_seconds = 0.0

    def feed(self, chunk: Chunk) -> Iterator[np.ndarray]:
        """Raises AudioError for a rate that no sound has, and for a channel that is not there."""
        layout = chunk.rate, chunk.samples.shape[1:]
        if layout != self._layout:
            yield from self.finish()
            self._configure(chunk.rate)
            self._layout = layout
        samples = self._zero_invalid(chunk)
        self._input_seconds += len(samples) / chunk.rate
        yield from self._resample(self._downmix.feed(samples))

    def finish(self) -> Iterator[np.ndarray]:
        """What still waits in the filters."""
        if self._layout is not None:
            yield from self._resample(self._downmix.finish(), last=True)
            self._layout = None

    def fault(self) -> AudioError | None:
        if not self._output_samples:  # one sample at 44.1 kHz is less than half a sample at 16 kHz
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
        self._resampler = None if rate == SAMPLE_RATE else _resampler(rate)

    def _resample(self, mono: np.ndarray, *, last: bool = False) -> Iterator[np.ndarray]:
        if self._resampler is not None and (len(mono) or last):
            mono = self._resampler.resample_chunk(mono, last=last)
        if len(mono):
            self._output_samples += len(mono)
            yield mono

    def _zero_invalid(self, chunk: Chunk) -> np.ndarray:
        invalid = find_invalid_samples(chunk.samples)
        if invalid is None:
            return chunk.samples
        if not self._invalid_samples:
            first = int(np.flatnonzero(invalid.reshape(len(invalid), -1).any(axis=1))[0])
            self._first_invalid_seconds = self._input_seconds + first / chunk.rate
        self._invalid_samples += int(invalid.sum())
        return np.where(invalid, np.float32(0), chunk.samples)
