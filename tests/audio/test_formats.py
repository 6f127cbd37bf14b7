"""A recording has the same words, timeline and excerpts in every format.

"welcome" is said twice in the source. What decodes a file is not asked here.
"""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from formats import FORMS, RECORDINGS, Form

from kws import Spotter
from kws.audio import recordings

pytestmark = pytest.mark.slow

RATE = recordings.SAMPLE_RATE
SOURCE = RECORDINGS / "twice.wav"
WORD_SECONDS = 0.03  # by which a codec may move the edges of a word, besides its delay
PART_SECONDS = (2.4, 3.2)  # holds the first word, and starts inside a frame of every codec
EDGE = RATE // 40  # the resampler does not know the audio before an excerpt


@dataclass(frozen=True)
class EncodedFile:
    """The source encoded in one form."""

    form: Form
    path: Path

    @cached_property
    def samples(self) -> np.ndarray:
        return recordings.read(self.path)


def form_param(form: Form) -> object:
    marks = [getattr(pytest.mark, program) for program in sorted(form.programs)]
    return pytest.param(form, id=form.name, marks=marks)


@pytest.fixture(scope="module", params=[form_param(form) for form in FORMS])
def encoded_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EncodedFile:
    return EncodedFile(
        request.param, request.param.write(SOURCE, tmp_path_factory.mktemp("formats"))
    )


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    return recordings.read(SOURCE)


@pytest.fixture(scope="module")
def spotter() -> Spotter:
    return Spotter.load("welcome")


@dataclass(frozen=True)
class Alignment:
    """The lag with the highest correlation between two recordings, in seconds."""

    seconds: float
    correlation: float


def cross_correlate(samples: np.ndarray, source: np.ndarray) -> Alignment:
    """Cross-correlation of samples [n] with a source [m], both at 16 kHz, over all lags."""
    size = 2 * max(len(samples), len(source))
    spectrum = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(source, size))
    correlation = np.fft.irfft(spectrum, size)
    at = int(correlation.argmax())
    norm = np.linalg.norm(samples) * np.linalg.norm(source)
    return Alignment((at if at < size // 2 else at - size) / RATE, float(correlation[at] / norm))


def test_the_words_are_found_where_they_are(encoded_file: EncodedFile, spotter: Spotter) -> None:
    with (RECORDINGS / "events.csv").open(newline="") as file:
        events = [row for row in csv.DictReader(file) if row["file"] == SOURCE.name]
    annotated = [float(row[edge]) for row in events for edge in ("start", "end")]
    original = [edge for event in spotter.detect(SOURCE) for edge in (event.start, event.end)]
    np.testing.assert_allclose(original, annotated, atol=0.05)
    detected = [
        edge for event in spotter.detect(encoded_file.samples) for edge in (event.start, event.end)
    ]
    delay, tolerance = (
        encoded_file.form.delay_seconds,
        WORD_SECONDS + encoded_file.form.tolerance_seconds,
    )
    assert len(detected) == 4
    np.testing.assert_allclose(np.array(detected) - delay, original, atol=tolerance)


def test_the_timeline_equals_that_of_the_source(
    encoded_file: EncodedFile, source: np.ndarray
) -> None:
    match = cross_correlate(encoded_file.samples, source)
    assert match.correlation > 0.6  # Speex keeps the spectrum and not the waveform
    tolerance = encoded_file.form.tolerance_seconds
    assert match.seconds == pytest.approx(encoded_file.form.delay_seconds, abs=tolerance)
    added = (len(encoded_file.samples) - len(source)) / RATE
    assert -tolerance < added < encoded_file.form.delay_seconds + 0.2  # the last frame is padded


def test_an_excerpt_equals_that_part_of_the_whole(encoded_file: EncodedFile) -> None:
    start, end = PART_SECONDS
    part = recordings.read_excerpt(encoded_file.path, start, end)
    same = encoded_file.samples[round(start * RATE) : round(end * RATE)]
    assert len(part) == pytest.approx(len(same), abs=1)
    inside = slice(EDGE, -EDGE)
    difference = part[: len(same)][inside] - same[: len(part)][inside]
    # Codecs that predict from sample to sample converge slowly.
    assert np.linalg.norm(difference) < 0.05 * np.linalg.norm(same[inside])
