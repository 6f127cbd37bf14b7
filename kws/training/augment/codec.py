"""Codecs: recordings of people have mostly been compressed. Where nothing else has, a network could
tell people from other sounds by that."""

import io

import numpy as np
import soundfile

from kws.audio.formats import to_int16
from kws.audio.recordings import SAMPLE_RATE
from kws.errors import KwsError

_PACKET_SAMPLES = SAMPLE_RATE // 50
_COMPLEXITY = 5  # of 10; the highest takes half as long again and sounds the same


def code_opus(samples: np.ndarray, bits_per_second: int) -> np.ndarray:
    """Audio as it sounds after Opus. samples [n]: float32 in ±1 at 16 kHz. Neither its length nor
    its place in time changes. Raises KwsError where PyAV is not installed."""
    try:
        import av
    except ImportError:
        raise KwsError("Coding audio with Opus needs the package av. pip install av") from None
    # libsndfile does not find the end of a short file that ends within a packet.
    padded = np.pad(samples, (0, _PACKET_SAMPLES - len(samples) % _PACKET_SAMPLES))
    coded = io.BytesIO()
    with av.open(coded, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = bits_per_second
        stream.options = {"compression_level": str(_COMPLEXITY)}
        frame = av.AudioFrame.from_ndarray(to_int16(padded)[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32")
    return decoded[: len(samples)]
