"""Writes a second of tone in many audio formats, with the libraries that are installed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

TONE_HERTZ, TONE_AMPLITUDE = 440.0, 0.3


class NoEncoderError(Exception):
    """No installed library writes this format."""


@dataclass(frozen=True)
class Format:
    """An audio format. libsndfile writes it in this `container`; without one, PyAV does."""

    name: str
    suffix: str
    codec: str
    container: str = ""
    rate: int = 48_000


FORMATS = (
    Format("WAV", ".wav", "PCM_16", "WAV"),
    Format("FLAC", ".flac", "PCM_16", "FLAC"),
    Format("Ogg Vorbis", ".ogg", "VORBIS", "OGG"),
    Format("Opus", ".opus", "OPUS", "OGG"),
    Format("AIFF", ".aiff", "PCM_16", "AIFF"),
    Format("AU", ".au", "PCM_16", "AU"),
    Format("CAF", ".caf", "PCM_16", "CAF"),
    Format("W64", ".w64", "PCM_16", "W64"),
    Format("RF64", ".rf64", "PCM_16", "RF64"),
    Format("MP3", ".mp3", "MPEG_LAYER_III", "MP3"),
    Format("M4A", ".m4a", "aac"),
    Format("WebM", ".webm", "libopus"),
    Format("WMA", ".wma", "wmav2"),
    Format("AMR", ".amr", "libopencore_amrnb", rate=8_000),
    Format("3GP", ".3gp", "aac"),
)


def write_tone(path: Path, audio_format: Format) -> None:
    """Raises NoEncoderError, or ImportError where PyAV is needed and cannot be imported."""
    tone = TONE_AMPLITUDE * np.sin(
        2 * np.pi * TONE_HERTZ * np.arange(audio_format.rate) / audio_format.rate
    )
    if audio_format.container:
        _write_with_libsndfile(path, audio_format, tone.astype(np.float32))
    else:
        _write_with_pyav(path, audio_format, tone.astype(np.float32))


def _write_with_libsndfile(path: Path, audio_format: Format, samples: np.ndarray) -> None:
    if not soundfile.check_format(audio_format.container, audio_format.codec):
        raise NoEncoderError(f"libsndfile {soundfile.__libsndfile_version__} does not write it")
    soundfile.write(
        path, samples, audio_format.rate, audio_format.codec, format=audio_format.container
    )


def _write_with_pyav(path: Path, audio_format: Format, samples: np.ndarray) -> None:
    import av

    try:
        av.Codec(audio_format.codec, "w")
    except av.FFmpegError as error:
        raise NoEncoderError(f"PyAV {av.__version__} does not write it") from error
    with av.open(str(path), "w") as file:
        stream = file.add_stream(audio_format.codec, rate=audio_format.rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 12_200 if audio_format.rate == 8_000 else 64_000
        full_frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        full_frame.sample_rate = audio_format.rate
        for frame in av.AudioResampler(stream.format, "mono", audio_format.rate).resample(
            full_frame
        ):
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
