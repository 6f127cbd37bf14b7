"""The interface of decoders: the samples of a recording as they are stored, in chunks.

A decoder is tried if it `accepts` the first bytes of a file. If it cannot read the file after all,
it raises UnsupportedFormatError, and the next decoder is tried. A damaged recording is decoded as
far as possible; then `chunks` raises AudioError.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np

from kws.errors import AudioError

# Headers are often slightly wrong: a recording may be shorter by less than this.
TOLERANCE_SECONDS = 0.05
INSTALL_PYAV = "pip install av"
_MAX_CHUNK_VALUES = 2**20  # samples × channels

logger = logging.getLogger("kws.audio.decoders")


class UnsupportedFormatError(Exception):
    """This decoder cannot read the file. The message is the reason, a part of a sentence."""


@dataclass(frozen=True)
class Chunk:
    """`samples` [n] or [n, channels], float32 in ±1 or int16, at `rate` samples per second."""

    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class DecodeRequest:
    """A file to decode, open at its beginning. head: its first bytes. start_seconds: where to
    start. track: which audio track, counted from 1; None for the first."""

    file: FileIO
    path: Path
    head: bytes
    start_seconds: float
    block_seconds: float
    track: int | None

    def chunk_frames(self, rate: int, channels: int) -> int:
        """Frames of a chunk: `block_seconds`, or fewer where that would need too much memory."""
        return max(1, min(round(self.block_seconds * rate), _MAX_CHUNK_VALUES // max(channels, 1)))

    def check_track(self, tracks: int) -> None:
        """Raises AudioError if the file has fewer tracks than the requested one."""
        if self.track is not None and self.track > tracks:
            track_text = f"{tracks} audio track" + ("s" if tracks != 1 else "")
            raise AudioError(
                f"{self.path}: no audio track {self.track} in it; it has {track_text}. "
                "Change --track."
            )

    def truncation_error(self, seconds: float, declared_seconds: float, reason: str) -> AudioError:
        """The error for a recording that is shorter than its header declares."""
        return AudioError(
            f"{self.path}: only the first {seconds:.2f} of {declared_seconds:.2f} s can be read "
            f"({reason}). Copy or record it again."
        )

    def missing_end_error(self, seconds: float) -> AudioError:
        """The error for a recording without its end, where the declared duration is unknown."""
        return AudioError(
            f"{self.path}: the end is missing after {seconds:.2f} s. Copy or record it again."
        )

    def trailing_recording_error(self, seconds: float) -> AudioError:
        """The error for a file with a second recording that this decoder does not read."""
        return AudioError(
            f"{self.path}: only the first {seconds:.2f} s are read; another recording follows in "
            f"the same file. {INSTALL_PYAV} brings a decoder that reads both."
        )


@dataclass(frozen=True)
class DecodedRecording:
    """An open recording from the requested start on.

    seconds: the duration in its header, None if there is none. chunks: raises AudioError after the
    last chunk of a damaged recording. can_seek: whether a late start is as fast as an early one.
    """

    seconds: float | None
    chunks: Iterator[Chunk]
    can_seek: bool


class Decoder(Protocol):
    """A library that reads some formats."""

    name: str

    def accepts(self, head: bytes) -> bool:
        """Whether to try this decoder for a file with these first bytes."""
        ...

    def open(self, request: DecodeRequest) -> AbstractContextManager[DecodedRecording]:
        """Raises UnsupportedFormatError for a file that it cannot read, AudioError for a missing
        track."""
        ...
