"""dr_mp3, through the package miniaudio: MP3 where PyAV is not installed.

It seeks by decoding all that comes before. A recording is incomplete where fewer frames come than
its length tag tells of, or where another one follows in the same file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from kws.audio.decoders.base import TOLERANCE_SECONDS, Chunk, Decoded, RefusedError, Source
from kws.audio.decoders.signatures import begins_again, is_mpeg
from kws.errors import AudioError

if TYPE_CHECKING:
    import miniaudio


class Mp3:
    """Reads with miniaudio."""

    name = "miniaudio"

    def suits(self, head: bytes) -> bool:
        return is_mpeg(head)

    @contextmanager
    def open(self, source: Source) -> Iterator[Decoded]:
        import miniaudio

        # At the beginning of a name, miniaudio takes "~" for the home folder.
        path = str(source.path.absolute())
        try:
            info = miniaudio.mp3_get_file_info(path)
        except (miniaudio.DecodeError, UnicodeEncodeError) as error:
            raise RefusedError("it is no MP3 file") from error
        source.check_track(1)
        yield Decoded(info.num_frames / info.sample_rate, _chunks(source, path, info), seeks=False)


def _chunks(source: Source, path: str, info: "miniaudio.SoundFileInfo") -> Iterator[Chunk]:
    import miniaudio

    rate, channels = info.sample_rate, info.nchannels
    at = min(round(source.start_seconds * rate), info.num_frames)
    try:
        for values in miniaudio.mp3_stream_file(path, source.chunk_frames(rate, channels), at):
            samples = np.asarray(values, dtype=np.float32).reshape(-1, channels) / 32768
            at += len(samples)
            yield Chunk(samples, rate)
    except (miniaudio.DecodeError, FileNotFoundError) as error:
        reason = "it is gone" if isinstance(error, FileNotFoundError) else error
        raise AudioError(
            f"{source.path}: cannot be decoded ({reason}). Copy or record it again."
        ) from error
    if (info.num_frames - at) / rate >= TOLERANCE_SECONDS:
        raise source.ended_early(at / rate, info.num_frames / rate, "the file ends early")
    if begins_again(source.file):
        raise source.continued(at / rate)
