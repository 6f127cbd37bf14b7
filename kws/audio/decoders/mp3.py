"""dr_mp3, through the package miniaudio: MP3 without PyAV.

It decodes everything before the start. A recording is incomplete if it has fewer frames than its
length tag declares, or if another recording follows in the same file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from kws.audio.decoders.base import (
    TOLERANCE_SECONDS,
    Chunk,
    DecodedRecording,
    DecodeRequest,
    UnsupportedFormatError,
)
from kws.audio.decoders.signatures import has_second_recording, is_mpeg
from kws.audio.formats import to_float32
from kws.errors import AudioError

if TYPE_CHECKING:
    import miniaudio


class MiniaudioDecoder:
    """Reads with miniaudio."""

    name = "miniaudio"

    def accepts(self, head: bytes) -> bool:
        return is_mpeg(head)

    @contextmanager
    def open(self, request: DecodeRequest) -> Iterator[DecodedRecording]:
        import miniaudio

        # Absolute, for miniaudio expands a leading "~".
        path = str(request.path.absolute())
        try:
            info = miniaudio.mp3_get_file_info(path)
        except (miniaudio.DecodeError, UnicodeEncodeError) as error:
            raise UnsupportedFormatError("it is no MP3 file") from error
        request.check_track(1)
        yield DecodedRecording(
            info.num_frames / info.sample_rate, _read_chunks(request, path, info), can_seek=False
        )


def _read_chunks(
    request: DecodeRequest, path: str, info: "miniaudio.SoundFileInfo"
) -> Iterator[Chunk]:
    import miniaudio

    rate, channels = info.sample_rate, info.nchannels
    position = min(round(request.start_seconds * rate), info.num_frames)
    try:
        for values in miniaudio.mp3_stream_file(
            path, request.chunk_frames(rate, channels), position
        ):
            samples = to_float32(np.asarray(values).reshape(-1, channels))
            position += len(samples)
            yield Chunk(samples, rate)
    except (miniaudio.DecodeError, FileNotFoundError) as error:
        reason = "it is gone" if isinstance(error, FileNotFoundError) else error
        raise AudioError(
            f"{request.path}: cannot be decoded ({reason}). Copy or record it again."
        ) from error
    if (info.num_frames - position) / rate >= TOLERANCE_SECONDS:
        raise request.truncation_error(
            position / rate, info.num_frames / rate, "the file ends early"
        )
    if has_second_recording(request.file):
        raise request.trailing_recording_error(position / rate)
