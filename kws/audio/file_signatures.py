"""Whether a file is a recording, from its first bytes and not from its name.

Most formats have a magic number. Streams of frames (MP3, AAC, AC-3, MPEG-TS) only have a short sync
word, which other files contain by chance. There a second frame must follow the first one.
"""

from collections.abc import Callable, Iterator

HEAD_BYTES = 2**14  # enough to decide: two frames of any format are shorter

# fmt: off
_MAGIC_NUMBERS = (
    b"fLaC", b"OggS", b"ID3", b"ADIF", b".snd", b"dns.", b"caff", b"#!AMR", b"RF64", b"BW64",
    b"riff\x2e\x91\xcf\x11", b"FRM8", b"DSD ", b"MAC ", b"wvpk", b"TTA1", b"TTA2", b"tBaK",
    b"MPCK", b"MP+", b"NIST_1A", b"Creative Voice File", b"SOUND SAMPLE DATA", b"ajkg",
    b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b".RMF", b".ra\xfd",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01", b"\x00\x00\x01\xba", b"\x64\xa3\x01\x00",
    b"\x64\xa3\x02\x00", b"\x64\xa3\x03\x00", b"\x00\x01\xa3\x64", b"\x00\x02\xa3\x64",
    b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\x00", b"\xff\x1f\x00\xe8", b"PVF1",
    b"2BIT", b"\x00\x00\x00\x00\x01\xbc",
)
_RIFF_FORM_TYPES = (b"WAVE", b"AVI ", b"AMV ")
_IFF_FORM_TYPES = (b"AIFF", b"AIFC", b"8SVX", b"16SV", b"MAUD")
_MP4_BOX_TYPES = (b"ftyp", b"moov", b"mdat", b"wide", b"pnot")
# Images in an ftyp box.
_IMAGE_BRANDS = (
    b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"crx ", b"jp2 ",
)
_MAJOR_SYNC = (b"\xf8\x72\x6f\xba", b"\xf8\x72\x6f\xbb")  # TrueHD, MLP
_MPEG_BITRATES_KBPS = {  # by (is MPEG 1, layer); 0 is the free format, which nobody uses
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# By the version field: MPEG 1, 2, 2.5.
_MPEG_SAMPLE_RATES = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
_AC3_BITRATES_KBPS = (
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
)
# fmt: on
_AC3_SAMPLE_RATES = (48_000, 44_100, 32_000)


def has_audio_signature(head: bytes) -> bool:
    """Whether a file with these first bytes is a recording, or a video. head: HEAD_BYTES bytes, or
    the whole of a shorter file."""
    form_type = head[8:12]
    return (
        head.startswith(_MAGIC_NUMBERS)
        or (head[:4] in (b"RIFF", b"RIFX") and form_type in _RIFF_FORM_TYPES)
        or (head[:4] == b"FORM" and form_type in _IFF_FORM_TYPES)
        or (head[4:8] in _MP4_BOX_TYPES and form_type not in _IMAGE_BRANDS)
        or head[4:8] in _MAJOR_SYNC
        or any(
            _has_second_frame(head, length)
            for length in (mpeg_frame_bytes, _adts_bytes, _loas_bytes, _ac3_bytes)
        )
        or _is_transport_stream(head)
    )


def _has_second_frame(head: bytes, frame_bytes: Callable[[bytes], int]) -> bool:
    """Whether a second frame follows the first. frame_bytes: the length of the frame at the
    beginning of some bytes, 0 if there is none."""
    first = frame_bytes(head)
    return first > 0 and frame_bytes(head[first:]) > 0


def mpeg_frame_bytes(head: bytes) -> int:
    """Length of the frame of MPEG audio, layers I to III, at the beginning of these bytes; 0 if
    there is none (ISO 11172-3, section 2.4)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate_index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate_index in (0, 15) or rate_index == 3:
        return 0
    bits_per_second = 1000 * _MPEG_BITRATES_KBPS[version == 3, layer][bitrate_index]
    sample_rate = _MPEG_SAMPLE_RATES[version][rate_index]
    if layer == 1:
        return 4 * (12 * bits_per_second // sample_rate + padding)
    bytes_factor = 72 if layer == 3 and version != 3 else 144  # samples per frame / 8
    return bytes_factor * bits_per_second // sample_rate + padding


def xing_duration_seconds(head: bytes) -> float | None:
    """Duration in the Xing tag of an MP3, without the encoder's delay; None without a tag. head: at
    least 256 bytes of the first frame. The tag follows the side information."""
    if not mpeg_frame_bytes(head):
        return None
    version, is_mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    side_info_bytes = (17 if is_mono else 32) if version == 3 else (9 if is_mono else 17)
    offset = 4 + side_info_bytes
    tag, flags = head[offset : offset + 4], head[offset + 4 : offset + 8]
    if tag not in (b"Xing", b"Info") or len(flags) < 4 or not flags[3] & 1:
        return None
    frames = int.from_bytes(head[offset + 8 : offset + 12], "big")
    samples = frames * (1152 if version == 3 else 576)
    has_encoder_delays = flags[3] == 15 and any(head[offset + 120 : offset + 124])
    if has_encoder_delays:
        delay_fields = int.from_bytes(head[offset + 141 : offset + 144], "big")
        samples -= (delay_fields >> 12) + (delay_fields & 4095)
    return samples / _MPEG_SAMPLE_RATES[version][head[2] >> 2 & 3]


def _adts_bytes(head: bytes) -> int:
    """AAC in ADTS."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def _loas_bytes(head: bytes) -> int:
    """AAC in LATM."""
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return 0
    return 3 + ((head[1] & 0x1F) << 8 | head[2])


def _ac3_bytes(head: bytes) -> int:
    """AC-3 and E-AC-3."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate_index, size_code = head[4] >> 6, head[4] & 63
    if rate_index == 3 or size_code >= 2 * len(_AC3_BITRATES_KBPS):
        return 0
    frame_words = 96_000 * _AC3_BITRATES_KBPS[size_code // 2] // _AC3_SAMPLE_RATES[rate_index]
    return 2 * (frame_words + (size_code & 1 if rate_index == 1 else 0))


def _is_transport_stream(head: bytes) -> bool:
    """MPEG-TS: packets of 188 bytes that start with a sync byte; cameras put a timestamp of 4 bytes
    before each."""
    return any(
        _has_sync_bytes(head, first, packet_bytes) for first, packet_bytes in ((0, 188), (4, 192))
    )


def _has_sync_bytes(head: bytes, first: int, packet_bytes: int) -> bool:
    sync_bytes = list(_bytes_at_stride(head, first, packet_bytes))
    return len(sync_bytes) >= 3 and set(sync_bytes) == {0x47}


def _bytes_at_stride(head: bytes, first: int, packet_bytes: int) -> Iterator[int]:
    return (
        head[offset]
        for offset in range(first, min(len(head), first + 8 * packet_bytes), packet_bytes)
    )
