"""MP3: how long a frame is by its header (ISO 11172-3, section 2.4.2.3, and the lower rates of 13818-3)."""

_KILOBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1, layer III
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
)
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by the bits of the version


def frame_bytes(header: bytes) -> int | None:
    """Bytes of the layer III frame that begins like this; None where that cannot be told."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, rate, kilobits = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version not in _RATES or rate == 3 or kilobits in (0, 15):
        return None
    is_first = version == 3
    bits = 1000 * _KILOBITS[0 if is_first else 1][kilobits]
    return (144 if is_first else 72) * bits // _RATES[version][rate] + (header[2] >> 1 & 1)
