"""The rest of a damaged recording is decoded at its time, and missing parts are reported.

"welcome" is said twice in the source: before the damage, and after it.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from formats import AMR, RECORDINGS, Form, ffmpeg

from kws import Spotter
from kws.audio import recordings
from kws.errors import AudioError

pytestmark = pytest.mark.slow

RATE = recordings.SAMPLE_RATE
SOURCE = RECORDINGS / "twice.wav"
SOURCE_SECONDS = 7.05
FIRST, SECOND = (2.53, 2.95), (3.64, 4.19)  # start and end of the words, in seconds
CUT = 0.6  # fraction of the file that is left: holds the first word in all formats
HIT, HIT_BYTES = 0.4, 200  # fraction of the file before the overwritten bytes, and their number
PLACE_SECONDS = 0.1

Log = pytest.LogCaptureFixture


@dataclass(frozen=True)
class Family:
    """A format, and what a decoder can know of a damaged file of it.

    length_known: a file without its end still declares its duration. hit_known: overwritten bytes
    are noticed, unless the bytes are samples. finds_back: the format has marks by which a decoder
    finds the next frame and its time.
    """

    form: Form
    length_known: bool = True
    hit_known: bool = True
    finds_back: bool = True


SHORT_CLUSTERS = "-cluster_time_limit 500"  # milliseconds, as recording programs use

FAMILIES = [
    Family(ffmpeg("s16.wav"), hit_known=False),
    Family(ffmpeg("s16.aiff"), hit_known=False),
    Family(ffmpeg("s16.au"), hit_known=False),
    Family(ffmpeg("s16.caf"), hit_known=False),
    Family(ffmpeg("s16.w64"), hit_known=False),
    Family(ffmpeg("s16.flac")),
    Family(ffmpeg("vorbis.ogg", "-c:a libvorbis"), length_known=False),
    Family(ffmpeg("opus.ogg", "-c:a libopus -b:a 32k"), length_known=False),
    Family(ffmpeg("xing.mp3", "-b:a 32k")),
    Family(ffmpeg("xing-vbr.mp3", "-q:a 4")),
    Family(
        ffmpeg("bare.mp3", "-b:a 32k -write_xing 0", delay_seconds=1105 / 16_000),
        length_known=False,
    ),
    Family(ffmpeg("adts.aac", delay_seconds=1024 / 16_000), length_known=False),
    Family(ffmpeg("aac.m4a", "-movflags +faststart")),
    Family(ffmpeg("alac.m4a", "-c:a alac -movflags +faststart")),
    Family(ffmpeg("opus.webm", f"-c:a libopus -b:a 32k {SHORT_CLUSTERS}")),
    Family(ffmpeg("vorbis.mka", f"-c:a libvorbis {SHORT_CLUSTERS}")),
    Family(AMR, length_known=False, finds_back=False),
]


@dataclass(frozen=True)
class DecodeResult:
    """A recording to its end: samples at 16 kHz, the fault that it ended with, and the warnings."""

    samples: np.ndarray
    fault: str
    warnings: list[str]


@dataclass(frozen=True)
class Intact:
    family: Family
    path: Path

    def write_damaged(self, content: bytes) -> Path:
        path = self.path.with_name(f"damaged-{self.path.name}")
        path.write_bytes(content)
        return path


def family_param(family: Family) -> object:
    marks = [getattr(pytest.mark, program) for program in sorted(family.form.programs)]
    return pytest.param(family, id=family.form.name, marks=marks)


@pytest.fixture(scope="module", params=[family_param(family) for family in FAMILIES])
def intact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Intact:
    folder = tmp_path_factory.mktemp("damage")
    return Intact(request.param, request.param.form.write(SOURCE, folder))


@pytest.fixture(scope="module")
def spotter() -> Spotter:
    return Spotter.load("welcome")


def decode(path: Path, caplog: Log) -> DecodeResult:
    blocks, fault = [np.zeros(0, np.float32)], ""
    with caplog.at_level(logging.WARNING, "kws"):
        try:
            for block in recordings.blocks(path):
                blocks.append(block)
        except AudioError as error:
            fault = str(error).removeprefix(f"{path}: ")
    return DecodeResult(np.concatenate(blocks), fault, caplog.messages)


def has_word(spotter: Spotter, samples: np.ndarray, place: tuple[float, float]) -> bool:
    events = [(event.start, event.end) for event in spotter.detect(samples)]
    return any(np.allclose(event, place, rtol=0, atol=PLACE_SECONDS) for event in events)


def shift_span(place: tuple[float, float], family: Family) -> tuple[float, float]:
    start, end = place
    return start + family.form.delay_seconds, end + family.form.delay_seconds


def test_an_intact_file_has_no_fault(intact: Intact, spotter: Spotter, caplog: Log) -> None:
    whole = decode(intact.path, caplog)
    assert (whole.fault, whole.warnings) == ("", [])
    for place in (FIRST, SECOND):
        assert has_word(spotter, whole.samples, shift_span(place, intact.family))


def test_a_truncated_file_is_decoded_up_to_the_cut(
    intact: Intact, spotter: Spotter, caplog: Log
) -> None:
    content = intact.path.read_bytes()
    rest = decode(intact.write_damaged(content[: round(CUT * len(content))]), caplog)
    assert has_word(spotter, rest.samples, shift_span(FIRST, intact.family))
    assert len(rest.samples) / RATE < 0.7 * SOURCE_SECONDS
    assert rest.fault
    if intact.family.length_known:
        reported_seconds = np.array(
            [float(number) for number in re.findall(r"\d+\.\d+", rest.fault)]
        )
        for seconds in (len(rest.samples) / RATE, SOURCE_SECONDS):
            assert (abs(reported_seconds - seconds) < PLACE_SECONDS).any(), rest.fault


def test_audio_after_damage_is_decoded(intact: Intact, spotter: Spotter, caplog: Log) -> None:
    content = bytearray(intact.path.read_bytes())
    at = round(HIT * len(content))
    content[at : at + HIT_BYTES] = np.random.default_rng(0).bytes(HIT_BYTES)
    rest = decode(intact.write_damaged(content), caplog)
    if intact.family.finds_back:
        assert has_word(spotter, rest.samples, shift_span(SECOND, intact.family))
    assert bool(rest.fault or rest.warnings) == intact.family.hit_known


@pytest.mark.ffmpeg
def test_a_file_without_its_index_is_refused(tmp_path: Path, caplog: Log) -> None:
    """Phones write the index at the end of the recording; without it frames cannot be found."""
    path = ffmpeg("a.m4a").write(SOURCE, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: round(CUT * len(content))])
    rest = decode(path, caplog)
    assert not len(rest.samples) and rest.fault and not rest.warnings
