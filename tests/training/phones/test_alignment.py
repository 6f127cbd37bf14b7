"""Forced alignment by the network that comes with kws, on synthesized speech whose words lie at
known places."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from sounds import RATE, quiet

from kws.audio import recordings
from kws.errors import DataError
from kws.training.model.network import ScanningCNN
from kws.training.model.pretrained import PHONE_RECOGNIZER_FILE, shipped_checkpoint
from kws.training.model.torch_engine import load_network
from kws.training.phones.alignment import align_words

pytestmark = pytest.mark.flite
# Each word with the number of its segments in flite.
SEGMENTS = {
    "something": 6,
    "must": 4,
    "be": 2,
    "better": 4,
    "than": 3,
    "the": 2,
    "old": 3,
    "way": 2,
}
SENTENCE = list(SEGMENTS)
OTHER_SENTENCE = ["people", "looked", "for", "a", "new", "house", "in", "every", "city"]


@pytest.fixture(scope="module")
def network() -> ScanningCNN:
    return load_network(shipped_checkpoint(PHONE_RECOGNIZER_FILE))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return speak(SENTENCE, "slt", tmp_path_factory.mktemp("spoken"))[0]


def speak(words: list[str], voice: str, folder: Path) -> tuple[np.ndarray, list[float]]:
    """Samples of a sentence, and the end of the silence before it and of each of its segments."""
    path = folder / f"{voice}.wav"
    command = ["flite", "-voice", voice, "-t", " ".join(words), "-psdur", "-o", str(path)]
    segments = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ends = [float(segment.partition(":")[2]) for segment in segments]
    return recordings.read(path), ends[:-1]


@pytest.mark.parametrize("voice", ["slt", "rms", "awb"])
def test_words_lie_where_the_engine_says(network: ScanningCNN, voice: str, tmp_path: Path):
    samples, segment_ends = speak(SENTENCE, voice, tmp_path)
    word_ends = np.array(segment_ends)[np.cumsum([0, *SEGMENTS.values()])]
    aligned = align_words(network, samples, SENTENCE)
    assert [each.text for each in aligned] == SENTENCE
    starts, ends = (
        np.array([getattr(each, name) for each in aligned]) for name in ("start", "end")
    )
    assert np.abs(starts - word_ends[:-1]).max() < 0.15
    assert np.abs(ends - word_ends[1:]).max() < 0.15
    assert np.abs(np.median(starts - word_ends[:-1])) < 0.05
    assert np.abs(np.median(ends - word_ends[1:])) < 0.05


def test_a_pause_moves_the_words_after_it(network: ScanningCNN, spoken: np.ndarray):
    aligned = align_words(network, spoken, SENTENCE)
    cut = round((aligned[3].start + 0.01) * RATE)
    apart = align_words(network, np.concatenate([spoken[:cut], quiet(0.8), spoken[cut:]]), SENTENCE)
    moved = [after.start - before.start for before, after in zip(aligned, apart, strict=True)]
    assert moved == pytest.approx([0.0] * 3 + [0.8] * 5, abs=0.15)


def test_another_transcript_is_less_certain(network: ScanningCNN, spoken: np.ndarray):
    right = align_words(network, spoken, SENTENCE)
    wrong = align_words(network, spoken, OTHER_SENTENCE)
    assert all(0 <= each.confidence <= 1 for each in right + wrong)
    assert np.median([each.confidence for each in right]) > 0.5
    assert np.median([each.confidence for each in wrong]) < 0.1


def test_the_level_does_not_matter(network: ScanningCNN, spoken: np.ndarray):
    quieter = align_words(network, spoken / 500, SENTENCE)
    assert [each.start for each in quieter] == [
        each.start for each in align_words(network, spoken, SENTENCE)
    ]


def test_a_word_without_phones_is_left_out(network: ScanningCNN, spoken: np.ndarray):
    assert align_words(network, spoken, ["—", *SENTENCE]) == align_words(network, spoken, SENTENCE)
    assert align_words(network, spoken, []) == []


@pytest.mark.parametrize(
    ("samples", "message"),
    [(quiet(2.0), "no sound"), (np.ones(100, np.float32), "too short for the 216 phones")],
)
def test_what_cannot_hold_the_words(network: ScanningCNN, samples: np.ndarray, message: str):
    with pytest.raises(DataError, match=message):
        align_words(network, samples, SENTENCE * 8)
