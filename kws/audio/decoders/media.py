"""PyAV, the libraries of FFmpeg: compressed formats and containers.

Frames in a container have timestamps. Audio that starts after the picture, and gaps in the middle,
are filled with silence, so times are those that a player shows. If the timestamps start anew, as in
concatenated files, time goes on from where it was. Everything before the start is decoded, because
seeking in containers is not exact. A recording is incomplete if packets cannot be decoded, if time
is missing while the libraries report errors, or if it ends before its container says.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from kws.audio.decoders.base import (
    TOLERANCE_SECONDS,
    Chunk,
    DecodedRecording,
    DecodeRequest,
    UnsupportedFormatError,
    logger,
)
from kws.audio.decoders.files import FileSlice
from kws.audio.decoders.ogg import is_ogg_truncated
from kws.audio.decoders.signatures import find_recording_starts, read_after_tags
from kws.audio.file_signatures import mpeg_frame_bytes, xing_duration_seconds
from kws.audio.formats import to_float32
from kws.errors import AudioError

if TYPE_CHECKING:
    from io import FileIO
    from types import ModuleType

    from av import AudioFrame, Packet
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_MAX_GAP_SECONDS = 3600.0  # a longer gap is a damaged timestamp
_ERROR_LAG_SECONDS = 2.0  # frames still come after the packet in which an error was reported
_TIMESTAMP_ROUNDING_SECONDS = 0.005  # the tolerance of timestamps after an error
_TRUNCATION_MESSAGES = ("ended prematurely", "partial file")  # of the libraries
_MIN_PYAV_VERSION = 16  # with older versions MP3 files seem to end early
# Formats that store their duration roughly, or in whole blocks.
_DURATION_TOLERANCE_SECONDS = {"asf": 0.25, "caf": 0.3, "mp3": 0.25}
# These do not store their duration.
_FORMATS_WITHOUT_DURATION = ("aac", "ac3", "amr", "avi", "dts", "eac3", "gsm", "loas", "mp3")
# The default decoders do not support the comfort noise frames of telephones.
_PREFERRED_CODECS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
_AMR_ZERO_BITS = 0x83  # in the first byte of a frame (RFC 4867, section 5.3)
_DTYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
_TAG_MARKERS = (b"ID3", b"TAG", b"APE")  # packets that start so hold no audio


def has_pyav() -> bool:
    return find_spec("av") is not None


class PyAvDecoder:
    """Reads all that the libraries of FFmpeg read, where PyAV is installed."""

    name = "PyAV"

    def accepts(self, head: bytes) -> bool:
        return has_pyav()

    @contextmanager
    def open(self, request: DecodeRequest) -> Iterator[DecodedRecording]:
        av = _load_pyav()
        starts = find_recording_starts(request.file)
        with ExitStack() as stack:
            ends = [*starts[1:], None]
            first = _open_stream(av, request, starts[0], ends[0], stack)
            later_openers = (
                partial(_open_stream, av, request, *span, stack)
                for span in zip(starts[1:], ends[1:], strict=True)
            )
            seconds = first.declared_seconds if len(starts) == 1 else None
            yield DecodedRecording(
                seconds, _read_all(request, first, later_openers), can_seek=False
            )


@dataclass
class _StreamClock:
    """The time of a stream. end: seconds of audio so far. offset_seconds: added to timestamps,
    which may have started anew. last_seconds: timestamp of the latest frame."""

    end: float = 0.0
    offset_seconds: float = 0.0
    last_seconds: float | None = None

    def gap_before(self, seconds: float, tolerance_seconds: float) -> float:
        """Seconds missing before the frame with this timestamp; negative if it overlaps earlier
        audio; 0 within the tolerance."""
        if self.last_seconds is not None and seconds < self.last_seconds:
            self.offset_seconds = self.end - seconds
        gap = seconds + self.offset_seconds - self.end
        if gap > _MAX_GAP_SECONDS:
            self.offset_seconds, gap = self.offset_seconds - gap, 0.0
        # Some decoders need audio before the first sample.
        is_preroll = self.last_seconds is None and gap < 0
        self.last_seconds = seconds
        return gap if is_preroll or abs(gap) >= tolerance_seconds else 0.0


@dataclass
class _DamageLog:
    """The damage of a stream: `seconds` of audio that cannot be decoded, the first at time `first`.
    is_truncated: the end is missing. last_error_seconds: time of the last error of a library."""

    seconds: float = 0.0
    first: float | None = None
    is_truncated: bool = False
    last_error_seconds: float = -np.inf

    def record_messages(self, library_messages: list[str], time_seconds: float) -> None:
        self.last_error_seconds = time_seconds
        self.is_truncated |= any(
            pattern in text for pattern in _TRUNCATION_MESSAGES for text in library_messages
        )

    def is_damage_likely_at(self, seconds: float) -> bool:
        """Whether a gap at this time is damage rather than a pause of the recorder."""
        return seconds - self.last_error_seconds < _ERROR_LAG_SECONDS

    def add(self, seconds: float, time_seconds: float) -> None:
        self.first = time_seconds if self.first is None else self.first
        self.seconds += seconds


@dataclass
class _StreamReader:
    """One pass over an audio stream."""

    av: "ModuleType"
    request: DecodeRequest
    file: "FileIO | FileSlice"
    container: "InputContainer"
    stream: "AudioStream"
    decoder: "AudioCodecContext"
    declared_seconds: float | None
    start: float  # first timestamp of the container, in seconds
    last_packet: "Packet[AudioStream] | None" = None
    rate: int = 0  # sample rate of the first frame
    clock: _StreamClock = field(default_factory=_StreamClock)
    damage: _DamageLog = field(default_factory=_DamageLog)
    pauses: list[tuple[float, float]] = field(default_factory=list)  # start and end, in seconds

    def chunks(self) -> Iterator[Chunk]:
        """All audio of the stream. Raises AudioError at its end if some is missing."""
        track_count = len(self.container.streams.audio)
        if track_count > 1 and self.request.track is None:
            logger.warning(
                "%s: %d audio tracks; the first is used. Choose with --track.",
                self.request.path,
                track_count,
            )
        yield from self._align_to_timestamps()
        if self.pauses:
            self._warn_of_pauses()
        decoded_seconds = self.clock.end
        tolerance_seconds = _DURATION_TOLERANCE_SECONDS.get(
            self.container.format.name, TOLERANCE_SECONDS
        )
        if self.declared_seconds and self.declared_seconds - decoded_seconds >= tolerance_seconds:
            raise self.request.truncation_error(
                decoded_seconds, self.declared_seconds, "the file ends early"
            )
        if self._is_truncated():
            raise self.request.missing_end_error(decoded_seconds)
        if self.damage.first is not None and not self._is_trailing_tag():
            raise AudioError(
                f"{self.request.path}: damaged from {self.damage.first:.2f} s on, "
                f"{self.damage.seconds:.2f} s of it cannot be decoded "
                "and are replaced by silence. Copy or record it again."
            )

    def _warn_of_pauses(self) -> None:
        first = "from {:.2f} to {:.2f} s".format(*self.pauses[0])
        others = f" and at {len(self.pauses) - 1} other places" if len(self.pauses) > 1 else ""
        logger.warning(
            "%s: no audio is stored %s%s; this is replaced by silence.",
            self.request.path,
            first,
            others,
        )

    def _align_to_timestamps(self) -> Iterator[Chunk]:
        """All frames at their times: gaps are filled with silence, overlaps are dropped."""
        # Consecutive frames are converted together: one by one takes longer than to decode them.
        pending_frames: list[AudioFrame] = []
        for frame in self._frames():
            gap = self._gap_before(frame)
            if pending_frames and (gap or not self._is_next(frame, pending_frames)):
                yield _to_chunk(pending_frames)
                pending_frames = []
            if gap > 0:
                self._note_gap(gap)
                yield from _silence_chunks(gap, frame, self.request)
            if gap < 0:
                yield _to_chunk([frame], round(-gap * frame.sample_rate))
            else:
                pending_frames.append(frame)
            self.clock.end += max(gap + frame.samples / frame.sample_rate, 0.0)
        if pending_frames:
            yield _to_chunk(pending_frames)

    def _gap_before(self, frame: "AudioFrame") -> float:
        self.rate = self.rate or frame.sample_rate
        # Timestamps count samples at the first rate.
        if frame.time is None or frame.sample_rate != self.rate:
            return 0.0
        tolerance = (
            _TIMESTAMP_ROUNDING_SECONDS
            if self.damage.is_damage_likely_at(self.clock.end)
            else TOLERANCE_SECONDS
        )
        return self.clock.gap_before(frame.time - self.start, tolerance)

    def _is_next(self, frame: "AudioFrame", pending_frames: "list[AudioFrame]") -> bool:
        """Whether a frame fits into one chunk with the frames before it."""
        first, channels = pending_frames[0], frame.layout.nb_channels
        if len(pending_frames) * frame.samples >= self.request.chunk_frames(
            frame.sample_rate, channels
        ):
            return False
        return (frame.sample_rate, channels, frame.format.name) == (
            first.sample_rate,
            first.layout.nb_channels,
            first.format.name,
        )

    def _note_gap(self, seconds: float) -> None:
        """A gap is damage if the libraries just reported an error; else the recorder paused, or the
        audio starts after the picture."""
        if self.damage.is_damage_likely_at(self.clock.end):
            self.damage.add(seconds, self.clock.end)
        elif self.clock.end:
            self.pauses.append((self.clock.end, self.clock.end + seconds))

    def _frames(self) -> Iterator["AudioFrame"]:
        packets = self.container.demux(self.stream)
        while True:
            with self.av.logging.Capture() as library_messages:
                packet = self._next_packet(packets)
                frames = self._decode(packet) if packet else []
            if library_messages and not _is_tag(packet):
                self.damage.record_messages(
                    [text for _, _, text in library_messages], self.clock.end
                )
            yield from frames
            if packet is None:
                return

    def _next_packet(
        self, packets: Iterator["Packet[AudioStream]"]
    ) -> "Packet[AudioStream] | None":
        try:
            packet = next(packets, None)
        except self.av.FFmpegError:
            self.damage.is_truncated = True
            return None
        if packet and packet.size:
            self.last_packet = packet
            # The libraries do not report this damage.
            if self.container.format.name == "amr" and bytes(packet)[0] & _AMR_ZERO_BITS:
                self.damage.add(0.0, self.clock.end)
        return packet

    def _is_trailing_tag(self) -> bool:
        """Whether the undecodable bytes are a tag after the last frame of an MP3."""
        is_after_last_frame = self.damage.first == self.clock.end and not self.damage.seconds
        return self.container.format.name == "mp3" and is_after_last_frame

    def _is_truncated(self) -> bool:
        """Whether the end is missing, by an unknown amount."""
        if self.container.format.name == "mp3" and self.last_packet:
            return self.last_packet.size < mpeg_frame_bytes(bytes(self.last_packet))
        return self.damage.is_truncated or is_ogg_truncated(self.file)

    def _decode(self, packet: "Packet[AudioStream]") -> "list[AudioFrame]":
        try:
            return self.decoder.decode(packet)
        except self.av.FFmpegError:
            if not _is_tag(packet):
                self.damage.add(0.0, self.clock.end)
            return []


def _load_pyav() -> "ModuleType":
    """The module av, with silent libraries. Raises UnsupportedFormatError if it does not load."""
    try:
        import av
        import av.logging
    except Exception as error:  # a broken package may raise anything
        raise UnsupportedFormatError(f"PyAV is installed but does not load: {error}") from error
    logging.getLogger("libav").addHandler(logging.NullHandler())
    version = str(getattr(av, "__version__", "0"))
    if int(version.split(".")[0]) < _MIN_PYAV_VERSION:
        raise UnsupportedFormatError(
            f"PyAV {version} is too old; pip install -U av brings {_MIN_PYAV_VERSION}"
        )
    av.logging.set_level(av.logging.ERROR)  # so that errors can be captured
    av.logging.set_skip_repeated(False)
    return av


def _open_stream(
    av: "ModuleType", request: DecodeRequest, start: int, end: int | None, stack: ExitStack
) -> _StreamReader:
    """The recording in these bytes of the file. Raises UnsupportedFormatError."""
    request.file.seek(0)
    file: FileIO | FileSlice = request.file
    if start or end:
        file = FileSlice(request.file, start, end or request.file.seek(0, 2))
    try:
        with av.logging.Capture() as library_messages:
            # A playlist must not load the files and URLs that it names.
            container = stack.enter_context(
                av.open(file, options={"protocol_whitelist": "none"}, metadata_errors="replace")
            )
    except (av.FFmpegError, ValueError) as error:
        raise UnsupportedFormatError(_failure_reason(library_messages, error)) from error
    stream = _select_stream(request, container)
    start_seconds = (container.start_time or 0) / av.time_base
    return _StreamReader(
        av,
        request,
        file,
        container,
        stream,
        _make_decoder(av, stream),
        _declared_seconds(request, container, stream, start_seconds),
        start_seconds,
    )


def _read_all(
    request: DecodeRequest,
    first: _StreamReader,
    later_openers: Iterable[Callable[[], _StreamReader]],
) -> Iterator[Chunk]:
    """The audio of all recordings from the requested start on; later ones are opened in turn.
    Raises the first error at the end of all."""
    faults: list[AudioError] = []
    yield from _skip_until(
        request.start_seconds, _read_recordings(request, first, later_openers, faults)
    )
    if faults:
        raise faults[0]


def _read_recordings(
    request: DecodeRequest,
    first: _StreamReader,
    later_openers: Iterable[Callable[[], _StreamReader]],
    faults: list[AudioError],
) -> Iterator[Chunk]:
    for open_reader in (lambda: first, *later_openers):
        try:
            yield from open_reader().chunks()
        except AudioError as fault:
            faults.append(fault)
        except UnsupportedFormatError as refusal:
            faults.append(
                AudioError(f"{request.path}: a recording after the first is not read ({refusal}).")
            )


def _is_tag(packet: "Packet[AudioStream] | None") -> bool:
    return packet is not None and bytes(packet).startswith(_TAG_MARKERS)


def _failure_reason(library_messages: list[tuple[int, str, str]], error: Exception) -> str:
    """Why the libraries cannot open a file: their last message, if there is one."""
    if library_messages:
        return library_messages[-1][2].strip()
    return str(getattr(error, "strerror", None) or error)


def _select_stream(request: DecodeRequest, container: "InputContainer") -> "AudioStream":
    streams = container.streams.audio
    if not streams:
        raise UnsupportedFormatError("it has no audio")
    request.check_track(len(streams))
    return streams[(request.track or 1) - 1]


def _make_decoder(av: "ModuleType", stream: "AudioStream") -> "AudioCodecContext":
    if stream.codec_context is None:
        raise UnsupportedFormatError("its codec is unknown")
    preferred = _PREFERRED_CODECS.get(stream.codec_context.name)
    if preferred not in av.codecs_available:
        return stream.codec_context
    decoder: AudioCodecContext = av.CodecContext.create(preferred, "r")
    return decoder


def _declared_seconds(
    request: DecodeRequest, container: "InputContainer", stream: "AudioStream", start: float
) -> float | None:
    """End of the audio according to the container; None if it only guesses."""
    formats = container.format.name.split(",")
    if "mp3" in formats:
        return xing_duration_seconds(read_after_tags(request.file))
    if any(name in _FORMATS_WITHOUT_DURATION for name in formats):
        return None
    if "asf" in formats and len(container.streams) > 1:  # one duration for all streams
        return None
    if "matroska" in formats and (end := _parse_duration(stream.metadata.get("DURATION", ""))):
        return end - max(start, 0.0)
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - start
    return container.duration * 1e-6 if container.duration and len(container.streams) == 1 else None


def _parse_duration(text: str) -> float | None:
    """Seconds of "HH:MM:SS.fraction"; None for anything else."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return match and int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _to_chunk(frames: "list[AudioFrame]", skipped_samples: int = 0) -> Chunk:
    """Consecutive frames as one chunk of shape [n, channels], without the first samples."""
    first = frames[0]
    channels, is_planar = first.layout.nb_channels, first.format.is_planar
    if is_planar:
        planes = [_join_planes(frames, plane, 1) for plane in range(channels)]
        samples = np.stack(planes, axis=1)
    else:
        samples = _join_planes(frames, 0, channels).reshape(-1, channels)
    return Chunk(to_float32(samples[skipped_samples:]), first.sample_rate)


def _join_planes(frames: "list[AudioFrame]", plane: int, values_per_sample: int) -> np.ndarray:
    """The values of one plane of consecutive frames."""
    dtype = np.dtype(_DTYPES[frames[0].format.name.removesuffix("p")])
    return np.concatenate(
        [
            np.frombuffer(memoryview(frame.planes[plane]), dtype, frame.samples * values_per_sample)
            for frame in frames
        ]
    )


def _silence_chunks(seconds: float, frame: "AudioFrame", request: DecodeRequest) -> Iterator[Chunk]:
    rate, channels = frame.sample_rate, frame.layout.nb_channels
    remaining = round(seconds * rate)
    while remaining > 0:
        count = min(remaining, request.chunk_frames(rate, channels))
        yield Chunk(np.zeros((count, channels), np.float32), rate)
        remaining -= count


def _skip_until(start_seconds: float, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The chunks from a time on."""
    time_seconds = 0.0
    for chunk in chunks:
        end = time_seconds + len(chunk.samples) / chunk.rate
        if end > start_seconds:
            yield Chunk(
                chunk.samples[max(round((start_seconds - time_seconds) * chunk.rate), 0) :],
                chunk.rate,
            )
        time_seconds = end
