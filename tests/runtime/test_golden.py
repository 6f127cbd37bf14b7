"""The shipped model on the shipped recordings: events, their boundaries and scores, for every way
to feed the audio."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from kws import Detection, Spotter
from kws.cli.main import main
from kws.runtime.engine import Engine

FOLDER = Path(__file__).resolve().parents[2] / "recordings"
FILES = ("absent.wav", "early.wav", "late.wav", "noise.wav", "twice.wav")
PLACE_SECONDS = 0.05  # tolerance of start and end
SCORES = {
    "early.wav": [0.9865],
    "late.wav": [0.9999],
    "noise.wav": [0.9995],
    "twice.wav": [0.9959, 1.0],
}
# A false alarm of this model: "well, come in".
FALSE_EVENT = ("absent.wav", 0.57, 1.23, 0.968)
FASTER = 1.15
LOW_THRESHOLD = 0.1
# Starts and scores of absent.wav played faster. These scores lie between 0 and 1, so they depend on
# the parameters of the verifier.
FASTER_EVENTS = [(0.5, 0.986), (2.93, 0.26), (2.98, 0.985), (8.65, 0.763)]


@dataclass(frozen=True)
class Golden:
    file: str
    start: float
    end: float
    score: float


@pytest.fixture(scope="module")
def golden() -> list[Golden]:
    """All expected events, in the order of FILES."""
    scores = {name: iter(values) for name, values in SCORES.items()}
    expected = [Golden(*FALSE_EVENT)]
    with (FOLDER / "events.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = float(row["start"]), float(row["end"])
            expected.append(Golden(row["file"], *place, next(scores[row["file"]])))
    return sorted(expected, key=lambda each: (each.file, each.start))


@pytest.fixture(scope="module")
def spotter() -> Spotter:
    return Spotter.load("welcome")


def read(name: str) -> np.ndarray:
    samples, rate = soundfile.read(FOLDER / name, dtype="float32")
    assert rate == Spotter.sample_rate
    return samples


def detect_in_chunks(spotter: Spotter, samples: np.ndarray, chunk: int) -> list[Detection]:
    stream, events = spotter.stream(), []
    for at in range(0, len(samples), chunk):
        events += stream.feed(samples[at : at + chunk])
    return events + stream.finish()


def detect_every_way(spotter: Spotter, name: str) -> Iterator[list[Detection]]:
    yield list(spotter.detect(FOLDER / name))
    yield list(spotter.detect(read(name)))
    for chunk in (161, 1280, 16_000):
        yield detect_in_chunks(spotter, read(name), chunk)


def run_detect(*arguments: object) -> list[dict]:
    """The events that `kws detect --json` prints for all recordings."""
    files = [str(FOLDER / name) for name in FILES]
    result = CliRunner().invoke(main, ["detect", "--json", *map(str, arguments), *files])
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def check(found: list[dict], golden: list[Golden]) -> None:
    assert [Path(event["file"]).name for event in found] == [each.file for each in golden]
    for event, each in zip(found, golden, strict=True):
        assert event["word"] == "welcome"
        assert event["start"] == pytest.approx(each.start, abs=PLACE_SECONDS), each
        assert event["end"] == pytest.approx(each.end, abs=PLACE_SECONDS), each
        assert event["score"] == pytest.approx(each.score, abs=0.02), each


def test_every_recording_has_its_scores(golden):
    assert sorted(path.name for path in FOLDER.glob("*.wav")) == list(FILES)
    counts = Counter(each.file for each in golden)
    assert counts == {name: len(values) for name, values in SCORES.items()} | {"absent.wav": 1}


def test_the_command_finds_the_words_where_they_are(golden):
    check(run_detect(), golden)


@pytest.mark.parametrize("name", FILES)
def test_files_arrays_and_streams_give_the_same_events(spotter, golden, name):
    first, *others = detect_every_way(spotter, name)
    expected = [each for each in golden if each.file == name]
    check([{"file": name, **vars(event)} for event in first], expected)
    assert others == [first] * len(others)


@pytest.mark.parametrize("name", FILES)
def test_live_audio_gives_the_same_events(spotter, name):
    live = (32768 * read(name)).astype("<i2").tobytes()
    result = CliRunner().invoke(main, ["stream", "--json", "-"], input=live)
    found = [Detection(*list(json.loads(line).values())[1:]) for line in result.stdout.splitlines()]
    assert found == list(spotter.detect(FOLDER / name)) != []


@pytest.mark.slow
def test_a_threshold_on_the_command_line_is_a_filter():
    everything = run_detect("--threshold", 0.01)
    assert len(everything) > 6
    for percent in range(5, 100, 5):
        expected = [event for event in everything if event["score"] >= percent / 100]
        assert run_detect("--threshold", percent / 100) == expected


def test_the_verifier_removes_a_false_event(spotter):
    """ "become" resembles the word, but has other phones."""
    unverified = Spotter(Engine.load("welcome", verifier=False), spotter.events)
    false_events, events = (list(each.detect(read("absent.wav"))) for each in (unverified, spotter))
    assert [event.start for event in false_events] == pytest.approx([0.59, 3.41], abs=PLACE_SECONDS)
    assert [event.start for event in events] == pytest.approx([0.57], abs=PLACE_SECONDS)


def test_confusables_spoken_faster_have_their_scores(spotter):
    samples = read("absent.wav")
    at = np.arange(0, len(samples) - 1, FASTER)
    faster = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    sensitive = Spotter(spotter.engine, spotter.events.at((LOW_THRESHOLD,)))
    starts, scores = zip(*FASTER_EVENTS, strict=True)
    found = list(sensitive.detect(faster))
    assert [event.start for event in found] == pytest.approx(starts, abs=PLACE_SECONDS)
    assert [event.score for event in found] == pytest.approx(scores, abs=0.02)


@pytest.mark.parametrize("number", range(5))
def test_a_word_at_the_end_of_a_recording_has_its_full_score(spotter, golden, number):
    """`finish` feeds enough silence: more of it changes nothing."""
    each = [each for each in golden if each.file != "absent.wav"][number]
    begin, end = (int(at * Spotter.sample_rate) for at in (max(each.start - 1.0, 0.0), each.end))
    ended, silence = read(each.file)[begin:end], np.zeros(2 * Spotter.sample_rate, np.float32)
    found = list(spotter.detect(ended))
    longer = detect_in_chunks(spotter, np.concatenate([ended, silence]), 16_000)
    assert [event.score for event in found] == [event.score for event in longer] != []
    assert all(event.end <= len(ended) / Spotter.sample_rate + 1e-3 for event in found)
