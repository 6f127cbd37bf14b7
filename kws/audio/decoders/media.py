"""PyAV, the libraries of FFmpeg: whatever is compressed or lies in a container, with the times of
the container's own clock.

A container stamps its frames with times. Where sound starts later than the picture, or is missing
in the middle, silence takes its place, so times are those that a player shows. Where the clock
starts anew, as in files put one after the other, it goes on from where it was. To find a later
time, all before it is decoded: what containers tell of places is not exact. A recording is
incomplete where packets cannot be decoded, where time is missing and the libraries complain, or
where it ends before its container says.
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

from kws.audio.decoders.base import TOLERANCE_SECONDS, Chunk, Decoded, RefusedError, Source, logger
from kws.audio.decoders.files import Window
from kws.audio.decoders.ogg import lacks_end
from kws.audio.decoders.signatures import beginnings, read_behind_tags
from kws.audio.file_signatures import mpeg_frame_bytes, mpeg_tagged_seconds
from kws.errors import AudioError

if TYPE_CHECKING:
    from io import FileIO
    from types import ModuleType

    from av import AudioFrame, Packet
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# A longer one is a damaged time stamp: nobody waits for years of silence.
_LONGEST_GAP_SECONDS = 3600.0
_COMPLAINT_SECONDS = 2.0  # frames still come after the packet in which damage was noticed
_ROUNDING_SECONDS = 0.005  # of time stamps: all that is forgiven them after damage
_CUT_OFF = ("ended prematurely", "partial file")  # what the libraries say of a file without its end
# Of formats that store it roughly, or in whole blocks.
_OLDEST_VERSION = 16  # of PyAV: with older ones MP3 files seem to end early
_LENGTH_SLACK_SECONDS = {"asf": 0.25, "caf": 0.3, "mp3": 0.25}
# These do not store their length.
_LENGTH_ESTIMATED = ("aac", "ac3", "amr", "avi", "dts", "eac3", "gsm", "loas", "mp3")
# The usual ones do not know the pauses of telephones.
_BETTER_CODECS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
_AMR_ZERO_BITS = 0x83  # of the first byte of a frame (RFC 4867, section 5.3)
_DTYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
_TAGS = (b"ID3", b"TAG", b"APE")  # of a file that follows another: no sound is in them


class Media:
    """Reads with PyAV, where it is installed."""

    name = "PyAV"

    def suits(self, head: bytes) -> bool:
        return find_spec("av") is not None

    @contextmanager
    def open(self, source: Source) -> Iterator[Decoded]:
        av = _library()
        starts = beginnings(source.file)
        with ExitStack() as stack:
            ends = [*starts[1:], None]
            first = _open(av, source, starts[0], ends[0], stack)
            others = (
                partial(_open, av, source, *place, stack)
                for place in zip(starts[1:], ends[1:], strict=True)
            )
            seconds = first.promised_seconds if len(starts) == 1 else None
            yield Decoded(seconds, _chunks(source, first, others), seeks=False)


@dataclass
class _Clock:
    """Where a stream of frames stands. `end`: seconds of sound given; `shift` is added to times,
    for clocks that started anew; `last`: the time of the latest frame."""

    end: float = 0.0
    shift: float = 0.0
    last: float | None = None

    def gap_before(self, seconds: float, tolerance_seconds: float) -> float:
        """Seconds missing before the frame of this time, negative where it overlaps what was given;
        0 where it is less than tolerated."""
        if self.last is not None and seconds < self.last:
            self.shift = self.end - seconds
        gap = seconds + self.shift - self.end
        if gap > _LONGEST_GAP_SECONDS:
            self.shift, gap = self.shift - gap, 0.0
        is_lead = self.last is None and gap < 0  # what a decoder needs before the first sample
        self.last = seconds
        return gap if is_lead or abs(gap) >= tolerance_seconds else 0.0


@dataclass
class _Losses:
    """What of a stream could not be heard: `seconds` of it, the first at `first`; `cut_off`: its
    end is missing; `complaint`: when the libraries last complained."""

    seconds: float = 0.0
    first: float | None = None
    cut_off: bool = False
    complaint: float = -np.inf

    def note(self, complaints: list[str], at: float) -> None:
        self.complaint = at
        self.cut_off |= any(phrase in text for phrase in _CUT_OFF for text in complaints)

    def is_likely_at(self, seconds: float) -> bool:
        """Whether sound that is missing at this time is damage, and no pause of the recorder."""
        return seconds - self.complaint < _COMPLAINT_SECONDS

    def add(self, seconds: float, at: float) -> None:
        self.first = at if self.first is None else self.first
        self.seconds += seconds


@dataclass
class _Reading:
    """One pass over an audio stream."""

    av: "ModuleType"
    source: Source
    file: "FileIO | Window"
    container: "InputContainer"
    stream: "AudioStream"
    decoder: "AudioCodecContext"
    promised_seconds: float | None
    start: float  # what the container's clock shows at its beginning
    last_packet: "Packet | None" = None
    rate: int = 0  # of the first frame
    clock: _Clock = field(default_factory=_Clock)
    losses: _Losses = field(default_factory=_Losses)
    pauses: list[tuple[float, float]] = field(default_factory=list)  # from and to, in seconds

    def chunks(self) -> Iterator[Chunk]:
        """All the sound. Raises AudioError at its end where not all was heard."""
        tracks = len(self.container.streams.audio)
        if tracks > 1 and self.source.track is None:
            logger.warning(
                "%s: %d audio tracks; the first is heard. Choose with --track.",
                self.source.path,
                tracks,
            )
        yield from self._timed()
        if self.pauses:
            self._tell_of_pauses()
        heard = self.clock.end
        slack = _LENGTH_SLACK_SECONDS.get(self.container.format.name, TOLERANCE_SECONDS)
        if self.promised_seconds and self.promised_seconds - heard >= slack:
            raise self.source.ended_early(heard, self.promised_seconds, "the file ends early")
        if self._is_cut_off():
            raise self.source.lost_end(heard)
        if self.losses.first is not None and not self._is_trailing_tag():
            raise AudioError(
                f"{self.source.path}: damaged from {self.losses.first:.2f} s on, "
                f"{self.losses.seconds:.2f} s of it cannot be decoded "
                "and are silence here. Copy or record it again."
            )

    def _tell_of_pauses(self) -> None:
        first = "from {:.2f} to {:.2f} s".format(*self.pauses[0])
        others = f" and at {len(self.pauses) - 1} other places" if len(self.pauses) > 1 else ""
        logger.warning(
            "%s: no sound is stored %s%s; this is taken for silence.",
            self.source.path,
            first,
            others,
        )

    def _timed(self) -> Iterator[Chunk]:
        """All frames, each at its time: with silence before it where some is missing, less what was
        given before."""
        # Frames that follow one another; to convert each alone would take longer than to decode it.
        run: list[AudioFrame] = []
        for frame in self._frames():
            gap = self._gap_before(frame)
            if run and (gap or not self._is_next(frame, run)):
                yield _chunk(run)
                run = []
            if gap > 0:
                self._note_gap(gap)
                yield from _silence(gap, frame, self.source)
            if gap < 0:
                yield _chunk([frame], round(-gap * frame.sample_rate))
            else:
                run.append(frame)
            self.clock.end += max(gap + frame.samples / frame.sample_rate, 0.0)
        if run:
            yield _chunk(run)

    def _gap_before(self, frame: "AudioFrame") -> float:
        self.rate = self.rate or frame.sample_rate
        if (
            frame.time is None or frame.sample_rate != self.rate
        ):  # times are counted at the first rate
            return 0.0
        tolerance = (
            _ROUNDING_SECONDS if self.losses.is_likely_at(self.clock.end) else TOLERANCE_SECONDS
        )
        return self.clock.gap_before(frame.time - self.start, tolerance)

    def _is_next(self, frame: "AudioFrame", run: "list[AudioFrame]") -> bool:
        """Whether a frame goes into one chunk with those before it."""
        first, channels = run[0], frame.layout.nb_channels
        if len(run) * frame.samples >= self.source.chunk_frames(frame.sample_rate, channels):
            return False
        return (frame.sample_rate, channels, frame.format.name) == (
            first.sample_rate,
            first.layout.nb_channels,
            first.format.name,
        )

    def _note_gap(self, seconds: float) -> None:
        """What is missing is damage where the libraries just complained; else a recorder paused, or
        sound starts later than the picture."""
        if self.losses.is_likely_at(self.clock.end):
            self.losses.add(seconds, self.clock.end)
        elif self.clock.end:
            self.pauses.append((self.clock.end, self.clock.end + seconds))

    def _frames(self) -> Iterator["AudioFrame"]:
        packets = self.container.demux(self.stream)
        while True:
            with self.av.logging.Capture() as complaints:
                packet = self._next(packets)
                frames = self._decoded(packet) if packet else []
            if complaints and not _is_tag(packet):
                self.losses.note([text for _, _, text in complaints], self.clock.end)
            yield from frames
            if packet is None:
                return

    def _next(self, packets: Iterator["Packet"]) -> "Packet | None":
        try:
            packet = next(packets, None)
        except self.av.FFmpegError:
            self.losses.cut_off = True
            return None
        if packet and packet.size:
            self.last_packet = packet
            # No library tells of it.
            if self.container.format.name == "amr" and bytes(packet)[0] & _AMR_ZERO_BITS:
                self.losses.add(0.0, self.clock.end)
        return packet

    def _is_trailing_tag(self) -> bool:
        """Whether what cannot be decoded lies behind the last frame of an MP3, as many tags do."""
        is_behind = self.losses.first == self.clock.end and not self.losses.seconds
        return self.container.format.name == "mp3" and is_behind

    def _is_cut_off(self) -> bool:
        """Whether the end is missing, though nobody knows how much."""
        if self.container.format.name == "mp3" and self.last_packet:
            return self.last_packet.size < mpeg_frame_bytes(bytes(self.last_packet))
        return self.losses.cut_off or lacks_end(self.file)

    def _decoded(self, packet: "Packet") -> "list[AudioFrame]":
        try:
            return self.decoder.decode(packet)
        except self.av.FFmpegError:
            if not _is_tag(packet):
                self.losses.add(0.0, self.clock.end)
            return []


def _library() -> "ModuleType":
    """The module av; its libraries print nothing. Raises RefusedError where it is broken."""
    try:
        import av
        import av.logging
    except Exception as error:  # a broken package raises whatever it likes
        raise RefusedError(f"PyAV is installed but does not load: {error}") from error
    logging.getLogger("libav").addHandler(logging.NullHandler())
    version = str(getattr(av, "__version__", "0"))
    if int(version.split(".")[0]) < _OLDEST_VERSION:
        raise RefusedError(f"PyAV {version} is too old; pip install -U av brings {_OLDEST_VERSION}")
    av.logging.set_level(av.logging.ERROR)  # or nobody could capture what the libraries complain of
    av.logging.set_skip_repeated(False)
    return av


def _open(
    av: "ModuleType", source: Source, start: int, end: int | None, stack: ExitStack
) -> _Reading:
    """The recording in these bytes of the file. Raises RefusedError."""
    source.file.seek(0)
    file = (
        source.file
        if start == 0 and end is None
        else Window(source.file, start, end or source.file.seek(0, 2))
    )
    try:
        with av.logging.Capture() as complaints:
            # A playlist must not bring what it names, from anywhere.
            container = stack.enter_context(
                av.open(file, options={"protocol_whitelist": "none"}, metadata_errors="replace")
            )
    except (av.FFmpegError, ValueError) as error:
        raise RefusedError(_reason(complaints, error)) from error
    stream = _audio_stream(source, container)
    start = (container.start_time or 0) / av.time_base
    return _Reading(
        av,
        source,
        file,
        container,
        stream,
        _decoder(av, stream),
        _promised_seconds(source, container, stream, start),
        start,
    )


def _chunks(
    source: Source, first: _Reading, others: Iterable[Callable[[], _Reading]]
) -> Iterator[Chunk]:
    """The sound of several recordings from `start_seconds` on; the others are opened in their turn.
    Raises the first fault at the end of all."""
    faults: list[AudioError] = []
    yield from _from(source.start_seconds, _all_chunks(source, first, others, faults))
    if faults:
        raise faults[0]


def _all_chunks(
    source: Source,
    first: _Reading,
    others: Iterable[Callable[[], _Reading]],
    faults: list[AudioError],
) -> Iterator[Chunk]:
    for open_reading in (lambda: first, *others):
        try:
            yield from open_reading().chunks()
        except AudioError as fault:
            faults.append(fault)
        except RefusedError as refusal:
            faults.append(
                AudioError(f"{source.path}: a recording behind the first is not heard ({refusal}).")
            )


def _is_tag(packet: "Packet | None") -> bool:
    return packet is not None and bytes(packet).startswith(_TAGS)


def _reason(complaints: list[tuple[int, str, str]], error: Exception) -> str:
    """Why the libraries cannot open a file: their own last word, if there is one."""
    return (
        complaints[-1][2].strip() if complaints else str(getattr(error, "strerror", None) or error)
    )


def _audio_stream(source: Source, container: "InputContainer") -> "AudioStream":
    streams = container.streams.audio
    if not streams:
        raise RefusedError("there is no sound in it")
    source.check_track(len(streams))
    return streams[(source.track or 1) - 1]


def _decoder(av: "ModuleType", stream: "AudioStream") -> "AudioCodecContext":
    if stream.codec_context is None:
        raise RefusedError("its codec is unknown")
    better = _BETTER_CODECS.get(stream.codec_context.name)
    return (
        av.CodecContext.create(better, "r")
        if better in av.codecs_available
        else stream.codec_context
    )


def _promised_seconds(
    source: Source, container: "InputContainer", stream: "AudioStream", start: float
) -> float | None:
    """When the sound ends by what the container says; None where it only guesses."""
    formats = container.format.name.split(",")
    if "mp3" in formats:
        return mpeg_tagged_seconds(read_behind_tags(source.file))
    is_shared = "asf" in formats and len(container.streams) > 1  # one length for all streams
    if is_shared or any(name in _LENGTH_ESTIMATED for name in formats):
        return None
    if "matroska" in formats and (end := _clock_seconds(stream.metadata.get("DURATION", ""))):
        return end - max(start, 0.0)
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - start
    return container.duration * 1e-6 if container.duration and len(container.streams) == 1 else None


def _clock_seconds(text: str) -> float | None:
    """Seconds of "HH:MM:SS.fraction"; None for anything else."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return found and int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _chunk(frames: "list[AudioFrame]", dropped: int = 0) -> Chunk:
    """Frames that follow one another as float32 [n, channels] in ±1, without so many of the
    first samples."""
    first = frames[0]
    channels, dtype = (
        first.layout.nb_channels,
        np.dtype(_DTYPES[first.format.name.removesuffix("p")]),
    )
    width = 1 if first.format.is_planar else channels
    planes = [
        np.concatenate(
            [
                np.frombuffer(memoryview(frame.planes[plane]), dtype, frame.samples * width)
                for frame in frames
            ]
        )
        for plane in range(channels if first.format.is_planar else 1)
    ]
    rows = np.stack(planes, axis=1) if first.format.is_planar else planes[0].reshape(-1, channels)
    return Chunk(_as_float(rows[dropped:]), first.sample_rate)


def _as_float(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return values.astype(np.float32) / -float(np.iinfo(values.dtype).min)
    return values.astype(np.float32, copy=False)


def _silence(seconds: float, frame: "AudioFrame", source: Source) -> Iterator[Chunk]:
    rate, channels = frame.sample_rate, frame.layout.nb_channels
    left = round(seconds * rate)
    while left > 0:
        count = min(left, source.chunk_frames(rate, channels))
        yield Chunk(np.zeros((count, channels), np.float32), rate)
        left -= count


def _from(start_seconds: float, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """What comes from a time on."""
    at = 0.0
    for chunk in chunks:
        end = at + len(chunk.samples) / chunk.rate
        if end > start_seconds:
            yield Chunk(
                chunk.samples[max(round((start_seconds - at) * chunk.rate), 0) :], chunk.rate
            )
        at = end
