"""What every decoder gives: the samples of a recording as they are stored, chunk by chunk, with
their rate.

A decoder is tried where it `accepts` the first bytes of a file. It raises `UnsupportedFormatError` for what it
does not read after all, and the next one is tried. A damaged recording is given as far as it goes;
only then does `chunks` raise AudioError.
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

# Headers are often a little off: less than this that is missing is no fault.
TOLERANCE_SECONDS = 0.05
INSTALL_PYAV = "pip install av"
_MAX_CHUNK_VALUES = 2**20  # samples × channels in memory at once, at most

logger = logging.getLogger("kws.audio.decoders")


class UnsupportedFormatError(Exception):
    """This decoder does not read the file; the message says why, as a part of a sentence."""


@dataclass(frozen=True)
class Chunk:
    """Float32 `samples` [n] or [n, channels] in ±1, at `rate` samples per second."""

    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class DecodeRequest:
    """A file to decode, open at its beginning, and what is wanted of it. `track` counts the audio
    tracks from 1."""

    file: FileIO
    path: Path
    head: bytes
    start_seconds: float
    block_seconds: float
    track: int | None

    def chunk_frames(self, rate: int, channels: int) -> int:
        """Frames of a chunk: `block_seconds`, or fewer where that would take too much memory."""
        return max(1, min(round(self.block_seconds * rate), _MAX_CHUNK_VALUES // max(channels, 1)))

    def check_track(self, tracks: int) -> None:
        """Raises AudioError where the wanted track is not among so many."""
        if self.track is not None and self.track > tracks:
            track_text = f"{tracks} audio track" + ("s" if tracks != 1 else "")
            raise AudioError(
                f"{self.path}: no audio track {self.track} in it; it has {track_text}. Change --track."
            )

    def truncation_error(self, seconds: float, declared_seconds: float, reason: str) -> AudioError:
        """What to say where less can be read than the file promises."""
        return AudioError(
            f"{self.path}: only the first {seconds:.2f} of {declared_seconds:.2f} s can be read "
            f"({reason}). Copy or record it again."
        )

    def missing_end_error(self, seconds: float) -> AudioError:
        """What to say where the end is missing, nobody knows how much."""
        return AudioError(
            f"{self.path}: the end is missing after {seconds:.2f} s. Copy or record it again."
        )

    def trailing_recording_error(self, seconds: float) -> AudioError:
        """What to say where another recording, which this decoder does not read, follows in the
        same file."""
        return AudioError(
            f"{self.path}: only the first {seconds:.2f} s are heard; "
            "another recording follows in the same file. "
            f"{INSTALL_PYAV} brings the decoder that hears both."
        )


@dataclass(frozen=True)
class DecodedRecording:
    """An open recording from `start_seconds` on. `seconds` is the length that its header promises,
    None where it promises none. `can_seek`: to open it at a later time takes no longer."""

    seconds: float | None
    chunks: Iterator[Chunk]
    can_seek: bool


class Decoder(Protocol):
    """One way to read files."""

    name: str

    def accepts(self, head: bytes) -> bool:
        """Whether files that begin with these bytes are for this decoder."""
        ...

    def open(self, source: DecodeRequest) -> AbstractContextManager[DecodedRecording]:
        """Raises RefusedError for what it does not read, AudioError for a track that is
        not there."""
        ...
