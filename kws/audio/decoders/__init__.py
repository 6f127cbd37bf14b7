"""Opens a recording of any format. Its samples come as they are stored, in chunks;
`kws.audio.recordings` converts them to model audio.

The decoders in DECODERS are tried in order. Each module describes how its decoder seeks, and how it
notices that a recording is incomplete.

- `sndfile` (libsndfile): uncompressed formats (WAV, RF64, W64, AIFF, AU, CAF, VOC, NIST, ...), with
  wrong headers repaired by `headers`.
- `media` (PyAV, from the extra `media`): all other formats (MP3, FLAC, Ogg, M4A, WebM, 3GP, AMR,
  video, ...).
- `mp3` (miniaudio): MP3 without PyAV.
- `sndfile` again: FLAC and Ogg without PyAV.
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
from kws.audio.decoders.media import PyAvDecoder, has_pyav
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
    """Opens a recording at `start_seconds`. Its chunks last `block_seconds`, or less where that
    would need too much memory. track: the audio track, counted from 1; None for the first.

    Raises AudioError for a file that is missing, not regular, empty or not permitted, for a missing
    track, and where no decoder reads the file.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_open_file(path))
        request = DecodeRequest(file, path, read_head(file), start_seconds, block_seconds, track)
        yield _open_with_decoder(request, stack)


def _open_file(path: Path) -> SafeFile:
    """The file, open at its beginning. Raises AudioError."""
    try:
        mode = path.stat().st_mode
        # Checked before opening: a named pipe would wait for a writer.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise AudioError(
                f"{path}: not a regular file. "
                "Save the recording first, or give it on standard input as '-'."
            )
        file = SafeFile(path)
    except (FileNotFoundError, ValueError):  # ValueError: a null byte in the name
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
    """Tries the decoders in order. Raises AudioError with the reason of the last one."""
    reason = "unknown format"
    for decoder in DECODERS:
        if not decoder.accepts(request.head):
            continue
        try:
            return stack.enter_context(decoder.open(request))
        except UnsupportedFormatError as error:
            reason = str(error)
    if has_pyav():
        raise AudioError(
            f"{request.path}: not a recording that can be read ({reason}). "
            "Check the file, or convert it to WAV."
        )
    raise AudioError(
        f"{request.path}: the installed decoders do not read it ({reason}). "
        f"{INSTALL_PYAV} brings one for MP4, M4A, WebM and most others."
    )
