"""Opens a recording of any format and gives its samples as they are, chunk by chunk; `kws.audio.recordings`
makes model audio of them.

DECODERS are tried in their order, each where it suits the first bytes of the file. Their modules
say how they seek, and how they tell that a recording is incomplete:

- `sndfile`, libsndfile: stored samples (WAV, RF64, W64, AIFF, AU, CAF, VOC, NIST, ...), with the
  mended headers of `headers`.
- `media`, PyAV, where it is installed (extra `media`): all else (MP3, FLAC, Ogg, M4A, WebM,
  3GP, AMR, video, ...).
- `mp3`, miniaudio: MP3, where PyAV is not installed.
- `sndfile` again: FLAC and Ogg, where PyAV is not installed.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kws.audio.decoders.base import (
    INSTALL_PYAV,
    Chunk,
    DecodedRecording,
    Decoder,
    DecodeRequest,
    UnsupportedFormatError,
)
from kws.audio.decoders.files import SafeFile
from kws.audio.decoders.media import PyAvDecoder
from kws.audio.decoders.mp3 import MiniaudioDecoder
from kws.audio.decoders.signatures import read_head
from kws.audio.decoders.sndfile import SndfileDecoder
from kws.errors import AudioError

__all__ = ["DECODERS", "Chunk", "DecodedRecording", "Decoder", "open_recording"]

DECODERS: tuple[Decoder, ...] = (
    SndfileDecoder(compressed=False),
    PyAvDecoder(),
    MiniaudioDecoder(),
    SndfileDecoder(compressed=True),
)


@contextmanager
def open_recording(
    path: Path, block_seconds: float, start_seconds: float = 0.0, track: int | None = None
) -> Iterator[DecodedRecording]:
    """Opens `path` at `start_seconds`; chunks are `block_seconds` long, or shorter where that
    would take too much memory. `track`: which of several audio tracks, counted from 1; the first
    unless told.

    Raises AudioError: no such file, not a regular file, empty, not permitted, no such track, or no
    decoder reads it.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_open_file(path))
        request = DecodeRequest(file, path, read_head(file), start_seconds, block_seconds, track)
        yield _open_with_decoder(request, stack)


def _open_file(path: Path) -> SafeFile:
    """The file, open at its beginning."""
    try:
        mode = path.stat().st_mode
        # Asked before it is opened: a named pipe would wait for a writer.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise AudioError(
                f"{path}: not a regular file. "
                "Save the recording first, or give it on standard input as '-'."
            )
        file = SafeFile(path)
    except (FileNotFoundError, ValueError):  # of a name with a null byte
        raise AudioError(f"{path}: no such file or directory. Check the path.") from None
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be opened ({error.strerror}). Check the path and its permissions."
        ) from None
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise AudioError(f"{path}: the file is empty (0 bytes). Record or copy it again.")
    return file


def _open_with_decoder(request: DecodeRequest, stack: ExitStack) -> DecodedRecording:
    reason = "unknown format"
    for decoder in DECODERS:
        if decoder.accepts(request.head):
            try:
                return stack.enter_context(decoder.open(request))
            except UnsupportedFormatError as refusal:
                reason = str(refusal)
    if PyAvDecoder().accepts(request.head):
        raise AudioError(
            f"{request.path}: not a recording that can be read ({reason}). "
            "Check the file, or convert it to WAV."
        )
    raise AudioError(
        f"{request.path}: the installed decoders do not read it ({reason}). "
        f"{INSTALL_PYAV} brings one for MP4, M4A, WebM and most others."
    )
