"""`kws evaluate` and `kws calibrate` from the command line: output, files and refusals."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from factories import make_config, make_model, make_network
from tones import RATE, TinyModel, write_tone_folder

from kws import Spotter
from kws.cli.main import main
from kws.runtime.engine import Engine
from kws.runtime.model_file import read_model
from kws.terminal.progress import progress_bar
from kws.training.model import checkpoint
from kws.training.model.document import copy_with_document

ROOT = Path(__file__).resolve().parents[2]
FAST = ("--snr", "clean", "--snr", "0", "--stream-seconds", "3")


def kws(*args: str | Path):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert "Traceback" not in result.stderr
    return result


def evaluate_json(model: TinyModel, *args: str | Path) -> dict:
    return json.loads(kws("evaluate", model.path, *args, *FAST, "--json").stdout)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """positives/rise, negatives/{fall,flat}: half an hour of tones that are not the word, in two
    files besides the clips."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_tone_folder(folder / "positives", 12)
    (folder / "negatives").mkdir()
    for word in ("fall", "flat"):
        shutil.move(folder / "positives" / word, folder / "negatives" / word)
        clips = [
            soundfile.read(path, dtype="float32")[0]
            for path in sorted((folder / "negatives" / word).iterdir())
        ]
        soundfile.write(
            folder / "negatives" / f"{word}s.wav",
            np.resize(np.concatenate(clips), 15 * 60 * RATE),
            RATE,
        )
    return folder


@pytest.fixture(scope="module")
def evaluated(tiny_model, folders) -> tuple[dict, str]:
    """The JSON report and the page of one run."""
    page = folders / "out" / "page.html"
    places = ("--positives", folders / "positives", "--negatives", folders / "negatives")
    result = kws("evaluate", tiny_model.path, *places, *FAST, "--json", "--html", page)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout), page.read_text()


# The figures


@pytest.mark.slow
def test_keys_of_the_report_are_documented(evaluated):
    report, _ = evaluated
    documented = set(
        re.findall(r"`(\w+)`", (ROOT / "docs" / "reference" / "evaluation-json.md").read_text())
    )
    assert keys_of(report) <= documented, keys_of(report) - documented


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in keys_of(each)}
    return {key for each in value for key in keys_of(each)} if isinstance(value, list) else set()


@pytest.mark.slow
def test_report(evaluated, tiny_model):
    report, _ = evaluated
    (word,) = report["results"]
    assert (word["word"], word["clips"], word["streams"]) == ("rise", 12, 24)
    assert report["negatives"]["hours"] == pytest.approx(0.5, abs=0.01)
    assert report["negatives"]["recordings"] == 26
    assert [row["snr_db"] for row in word["points"][0]["by_snr"]] == [None, 0.0]
    assert word["points"][0]["threshold"] == Spotter.load(tiny_model.path).events.threshold[0]
    assert [point["target_false_alarms_per_hour"] for point in word["points"]] == [
        None,
        0.1,
        0.5,
        1.0,
    ]
    assert all(
        "cannot show fewer than 2 per hour" in point["unknown"] for point in word["points"][1:]
    )


@pytest.mark.slow
def test_operating_points_are_at_the_rates_that_are_asked_for(tiny_model, folders):
    places = ("--positives", folders / "positives", "--negatives", folders / "negatives")
    rates = ("--false-alarms-per-hour", "4", "--false-alarms-per-hour", "2.5")
    (word,) = evaluate_json(tiny_model, *places, *rates)["results"]
    targets = [point["target_false_alarms_per_hour"] for point in word["points"]]
    assert targets == [None, 2.5, 4.0]
    assert all(point["false_alarms"] <= 1 for point in word["points"][1:])


@pytest.mark.slow
def test_same_seed_same_report(evaluated, tiny_model, folders):
    places = ("--positives", folders / "positives", "--negatives", folders / "negatives")
    assert evaluate_json(tiny_model, *places) == evaluated[0]


@pytest.mark.slow
def test_text_says_the_same(evaluated, tiny_model, folders):
    text = kws("evaluate", tiny_model.path, "--positives", folders / "positives", *FAST).stdout
    assert "12 clips (by their names no two of one speaker) in 24 streams of 3 s" in text
    assert "nothing without the word, so false alarms are unknown" in text
    own = evaluated[0]["results"][0]["points"][0]["by_snr"][0]
    assert f"{own['miss_rate'] * 100:.1f} % (" in text


@pytest.mark.slow
def test_positives_directly_in_the_folder(evaluated, tiny_model, folders):
    report = evaluate_json(tiny_model, "--positives", folders / "positives" / "rise")
    direct, nested = (each["results"][0]["points"][0]["missed"] for each in (report, evaluated[0]))
    assert direct == nested


def test_splits_share_no_speaker(tiny_model, folders, tmp_path):
    shutil.copytree(folders / "positives" / "rise", tmp_path / "rise")
    for number, path in enumerate(sorted((tmp_path / "rise").iterdir())):
        path.rename(path.with_name(f"speaker{number}_nohash_0.wav"))
    seen: list[str] = []
    for part in ("train", "validation", "test"):
        result = kws(
            "evaluate", tiny_model.path, "--positives", tmp_path, *FAST, "--split", part, "--json"
        )
        if result.exit_code:
            assert f"no usable clips of the {part} split of rise" in result.stderr
        else:
            seen += [
                row["speaker"] for row in json.loads(result.stdout)["results"][0]["by_speaker"]
            ]
    assert sorted(seen) == sorted(f"speaker{number}" for number in range(12))


def test_recorded_noise(tiny_model, folders):
    background = ("--background", folders / "positives" / "_background_noise_")
    report = evaluate_json(tiny_model, "--positives", folders / "positives", *background)
    assert report["background"] == [str(background[1])]


def test_where_in_the_stream(tiny_model, folders):
    places = (
        "--positives",
        folders / "positives",
        "--position",
        "0",
        "--position",
        "1.5",
        "--position",
        "0",
    )
    report = evaluate_json(tiny_model, *places)
    assert report["position_seconds"] == [0.0, 1.5]
    (word,) = report["results"]
    assert (word["clips"], word["streams"]) == (12, 48)
    assert {row["from_seconds"] for row in word["by_position"]} <= {0.0, 0.6, 1.2, 1.8, 2.4}
    assert len(word["by_position"]) == 2


@pytest.mark.slow
def test_several_words_each_have_their_result(tmp_path, folders):
    model = make_model(tmp_path, make_network(2))
    for word, other in (("word0", "rise"), ("word1", "fall")):
        source = folders / ("positives" if other == "rise" else "negatives") / other
        shutil.copytree(source, tmp_path / "positives" / word)
    places = ("--positives", tmp_path / "positives", "--negatives", folders / "negatives" / "flat")
    result = kws("evaluate", model, *places, *FAST, "--json", "--html", tmp_path / "page.html")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [(each["word"], each["clips"]) for each in report["results"]] == [
        ("word0", 12),
        ("word1", 12),
    ]
    assert report["results"][0]["false_alarms_in_streams"]["hours"] == pytest.approx(
        48 * 3 / 3600, abs=1e-4
    )
    assert Page((tmp_path / "page.html").read_text()).headings.count("Worst misses") == 2

    shutil.rmtree(tmp_path / "positives" / "word1")
    result = kws("evaluate", model, *places, *FAST, "--html", tmp_path / "page.html")
    assert result.exit_code == 0
    assert "no usable clips of 'word1'; its miss rate stays unknown" in result.stderr
    assert "word1: no clips of it" in result.stdout


@pytest.mark.slow
def test_folders_named_after_a_word_are_no_negatives(tiny_model, folders):
    places = (
        "--positives",
        folders / "positives",
        "--negatives",
        folders / "positives",
        "--negatives",
        folders / "negatives",
    )
    result = kws("evaluate", tiny_model.path, *places, *FAST, "--json")
    assert (
        "12 recordings in folders named after a word are not counted as audio without it"
        in result.stderr
    )
    assert json.loads(result.stdout)["negatives"]["recordings"] == 26 + 1  # and the hiss


@pytest.mark.slow
def test_positives_are_no_negatives(tiny_model, folders, tmp_path):
    (tmp_path / "mine").mkdir()
    for path in (folders / "positives" / "rise").iterdir():
        shutil.copy(path, tmp_path / "mine")
    places = (
        "--positives",
        tmp_path / "mine",
        "--negatives",
        tmp_path / "mine",
        "--negatives",
        folders / "negatives",
    )
    result = kws("evaluate", tiny_model.path, *places, *FAST, "--json")
    assert (
        "12 recordings that are also among --positives are not counted as audio without the word"
        in result.stderr
    )
    assert json.loads(result.stdout)["negatives"]["recordings"] == 26
    shutil.copytree(folders / "positives" / "rise", tmp_path / "rise" / "anna")
    places = (
        "--positives",
        folders / "positives",
        "--negatives",
        tmp_path / "rise",
        "--negatives",
        folders / "negatives",
    )
    result = kws("evaluate", tiny_model.path, *places, *FAST, "--json")
    assert "12 recordings in folders named after a word are not counted" in result.stderr
    assert json.loads(result.stdout)["negatives"]["recordings"] == 26


@pytest.mark.slow
def test_each_recording_counts_once(tiny_model, folders):
    twice = ("--negatives", folders / "negatives", "--negatives", folders / "negatives" / "fall")
    report = evaluate_json(tiny_model, "--positives", folders / "positives", *twice)
    assert report["negatives"]["recordings"] == 26


# The page


class Page(HTMLParser):
    """Tags that fit together, headings, and all that a page would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.fetched, self.headings, self.sounds, self.pictures = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "data", "poster") and not value.startswith("#"):
                self.fetched.append(value)
                kinds = {"audio": self.sounds, "image": self.pictures}
                kinds.get(tag, []).append(base64.b64decode(value.partition("base64,")[2]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(text)


@pytest.mark.slow
def test_page_stands_alone(evaluated):
    page = Page(evaluated[1])
    assert all(
        value.startswith(("data:audio/wav;base64,", "data:image/png;base64,"))
        for value in page.fetched
    )
    assert "@import" not in evaluated[1] and not re.search(r"url\((?!#)", evaluated[1])
    assert {"Misses against false alarms", "Worst misses", "Worst false alarms"} <= set(
        page.headings
    )


@pytest.mark.slow
def test_errors_have_a_sound_and_a_picture(evaluated):
    report, text = evaluated
    page, (word,) = Page(text), report["results"]
    assert (
        len(page.sounds)
        == len(page.pictures)
        == len(word["worst_misses"][:12]) + min(len(word["worst_false_alarms"]), 12)
        > 0
    )
    for sound in page.sounds:
        samples, rate = soundfile.read(io.BytesIO(sound))
        assert rate == RATE and 0.1 < len(samples) / rate <= 4.0 and np.abs(samples).max() > 0.001
    assert all(picture.startswith(b"\x89PNG") for picture in page.pictures)


def test_names_cannot_break_the_page(tiny_model, folders, tmp_path):
    folder = tmp_path / "<script>alert('&')"
    shutil.copytree(folders / "negatives" / "flat", folder)
    places = ("--positives", folders / "positives", "--negatives", folder)
    assert (
        kws("evaluate", tiny_model.path, *places, *FAST, "--html", tmp_path / "page.html").exit_code
        == 0
    )
    text = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    Page(text)


# Bad input


@pytest.fixture
def bad(folders, tmp_path) -> Path:
    """Folders with bad input."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage.kws").write_bytes(b"not a model")
    (tmp_path / "file").write_text("")
    shutil.copytree(folders / "positives" / "rise", tmp_path / "some" / "rise")
    soundfile.write(
        tmp_path / "some" / "rise" / "nan.wav",
        np.full(RATE, np.nan, np.float32),
        RATE,
        subtype="FLOAT",
    )
    soundfile.write(tmp_path / "some" / "rise" / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "some" / "rise" / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "some" / "rise" / "long.wav", np.ones(4 * RATE), RATE)
    (tmp_path / "quiet").mkdir()
    soundfile.write(tmp_path / "quiet" / "a.wav", np.zeros(RATE), RATE)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ("evaluate {model} --positives {bad}/none", 1, "none: no such folder"),
        ("evaluate {model} --positives {bad}/" + 300 * "n", 1, "no such folder"),
        ("evaluate {model} --positives {bad}/empty", 1, "no recordings in this directory"),
        (
            "evaluate {model} --positives {data}/negatives",
            1,
            "no usable clips of rise (folders there: fall, flat, negatives)",
        ),
        ("evaluate {model} --positives {bad}/quiet", 1, "no usable clips of rise"),
        (
            "evaluate {model} --positives {data}/positives --negatives {bad}/empty",
            1,
            "no recordings in this directory",
        ),
        (
            "evaluate {model} --positives {data}/positives --negatives {bad}/none",
            1,
            "none: no such folder",
        ),
        (
            "evaluate {model} --positives {data}/positives --negatives {data}/positives/rise",
            1,
            "none of the 12 recordings",
        ),
        (
            "evaluate {model} --positives {data}/positives --background {bad}/quiet",
            1,
            "nothing but silence",
        ),
        (
            "evaluate {bad}/garbage.kws --positives {data}/positives",
            1,
            "not a model file of kws, or a damaged one",
        ),
        ("evaluate nobody --positives {data}/positives", 1, "no model named 'nobody'"),
        (
            "evaluate {model} --positives {data}/positives --html {bad}/file/page.html",
            1,
            "page.html: cannot be written",
        ),
        (
            "evaluate {model} --positives {data}/positives --snr loud",
            2,
            "'loud' is neither 'clean' nor a number of dB",
        ),
        (
            "evaluate {model} --positives {data}/positives --snr nan",
            2,
            "'nan' is neither 'clean' nor a number of dB",
        ),
        ("evaluate {model} --positives {data}/positives --split some", 2, "'some' is not one of"),
        (
            "evaluate {model} --positives {data}/positives --position 10",
            2,
            "--position 10: the streams are 10 s long",
        ),
        (
            "evaluate {model} --positives {data}/positives --position 9.9",
            1,
            "no usable clips of rise",
        ),
        ("evaluate {model}", 2, "Missing option '--positives'"),
        ("calibrate {model}", 2, "Missing option '--negatives'"),
        ("calibrate {model} --negatives {bad}/none", 1, "none: no such folder"),
        ("calibrate {model} --negatives {bad}/empty", 1, "no recordings in this directory"),
        (
            "calibrate {model} --negatives {data}/negatives/flat --positives {data}/negatives",
            1,
            "no usable clips of rise",
        ),
        (
            "calibrate {model} --negatives {data}/negatives/flat --out {bad}/model.bin",
            1,
            "a model file is named NAME.kws",
        ),
        (
            "calibrate {model} --negatives {data}/negatives/flat --out {bad}/file/a.kws",
            1,
            "a.kws: cannot be written",
        ),
        (
            "calibrate {bad}/garbage.kws --negatives {data}/negatives",
            1,
            "not a model file of kws, or a damaged one",
        ),
    ],
)
def test_refusals(tiny_model, folders, bad, args, code, message):
    result = kws(
        *(arg.format(model=tiny_model.path, data=folders, bad=bad) for arg in args.split())
    )
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    if code == 1:
        assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_unusable_clips_are_named_and_left_out(tiny_model, bad):
    result = kws("evaluate", tiny_model.path, "--positives", bad / "some", *FAST, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["results"][0]["clips"] == 12
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    for name in ("nan.wav", "nothing.wav", "silent.wav", "long.wav"):
        assert sum(name in line and "left out" in line for line in lines) == 1, name


def test_a_clip_that_does_not_fit_names_the_length_of_the_streams(tiny_model, folders):
    result = kws(
        "evaluate",
        tiny_model.path,
        "--positives",
        folders / "positives",
        *FAST,
        "--position",
        "2.9",
    )
    assert (
        "s do not fit into streams of 3 s from 2.9 s on. "
        "Cut it, or ask for longer streams (--stream-seconds)."
    ) in result.stderr


@pytest.mark.slow
def test_full_disk(tiny_model, folders):
    args = ["evaluate", tiny_model.path, "--positives", folders / "positives", *FAST]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *map(str, args)],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: standard output: the figures cannot be written (No space left on device). "
        "Make room, or write elsewhere.\n"
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "shows"), [(Terminal(), True), (io.StringIO(), False)], ids=["terminal", "file"]
)
def test_progress_is_shown_on_a_terminal_only(monkeypatch, stderr, shows):
    monkeypatch.setattr(sys, "stderr", stderr)
    slow = (time.sleep(0.2) or number for number in range(5))
    assert list(progress_bar(slow, "streams of rise", unit="stream", total=5)) == [0, 1, 2, 3, 4]
    assert ("streams of rise" in stderr.getvalue() and "%|" in stderr.getvalue()) == shows


# Calibration


@pytest.mark.slow
def test_calibration_of_a_room(tiny_model, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kws(
        "calibrate",
        tiny_model.path,
        "--negatives",
        folders / "negatives",
        "--positives",
        folders / "positives",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    made = tmp_path / "models" / "rise-calibrated.kws"
    assert f"{made.relative_to(tmp_path)}: calibrated on 0.50 h of speech" in result.stdout
    assert "s in clips below 2 s in 26 recordings" in result.stdout
    before, after = (read_model(path).info.document for path in (tiny_model.path, made))
    assert after["calibration"]["clips"] == [12]
    # Half an hour shows no fewer.
    assert after["calibration"]["rows"][0]["false_alarms_per_hour"] == 2.0
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"calibration", "events"} and "calibration" in changed
    assert "rows" in kws("info", made).stdout
    assert "miss interval" in kws("info", made).stdout


@pytest.mark.slow
def test_the_new_threshold_has_the_rate_that_is_asked_for(tiny_model, folders, tmp_path):
    for rate, has_row in ((3.3, True), (1.0, False)):
        result = kws(
            *("calibrate", tiny_model.path, "--negatives", folders / "negatives"),
            *("--out", tmp_path / "room.kws", "--false-alarms-per-hour", rate),
        )
        assert result.exit_code == 0, result.stderr
        document = read_model(tmp_path / "room.kws").info.document
        rows = document["calibration"]["rows"]
        thresholds = {row["false_alarms_per_hour"]: row["threshold"] for row in rows}
        assert (rate in thresholds) == has_row
        if has_row:
            assert document["events"]["threshold"] == [max(0.5, thresholds[rate])]
        unshown = "1 per hour or fewer: 0.50 h cannot show fewer than 2 per hour"
        assert unshown in result.stdout


@pytest.mark.slow
def test_a_calibrated_model_has_the_same_scores(tiny_model, folders, tmp_path):
    out = tmp_path / "room.kws"
    assert (
        kws(
            "calibrate", tiny_model.path, "--negatives", folders / "negatives", "--out", out
        ).exit_code
        == 0
    )
    audio = (0.1 * np.random.default_rng(0).standard_normal(20_000)).astype(np.float32)
    old, new = (Engine.load(path).open_stream().step(audio) for path in (tiny_model.path, out))
    for a, b in zip(old, new, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (
        checkpoint.load(out.with_suffix(".pt")).keys()
        == checkpoint.load(tiny_model.path.with_suffix(".pt")).keys()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["room.kws", "room.pt"]


@pytest.mark.slow
def test_the_new_table_holds_on_the_recordings(tiny_model, folders, tmp_path):
    out = tmp_path / "room.kws"
    kws("calibrate", tiny_model.path, "--negatives", folders / "negatives", "--out", out)
    rows = read_model(out).info.document["calibration"]["rows"]
    assert all("miss_rate" not in row for row in rows)
    spotter = Spotter.load(out, false_alarms_per_hour=2)
    assert spotter.events.threshold[0] == rows[0]["threshold"]
    alarms = [
        event
        for path in sorted((folders / "negatives").rglob("*.wav"))
        for event in spotter.detect(path)
    ]
    assert len(alarms) == rows[0]["false_alarms"] <= 2 * 0.51
    refused = kws(
        "detect",
        folders / "negatives" / "falls.wav",
        "--model",
        out,
        "--false-alarms-per-hour",
        "1",
    )
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "for 'rise': 0.50 h of calibration show no fewer than 2. Ask for" in refused.stderr


def test_a_file_in_place_of_the_checkpoint_stays(tiny_model, folders, tmp_path):
    mine = tmp_path / "a.pt"
    mine.write_text("precious")
    result = kws(
        "calibrate",
        tiny_model.path,
        "--negatives",
        folders / "negatives" / "flat",
        "--out",
        tmp_path / "a.kws",
    )
    assert (result.exit_code, mine.read_text(), [*tmp_path.glob("*.kws")]) == (1, "precious", [])
    assert f"{mine}: the checkpoint beside a.kws would replace it" in result.stderr


def test_too_little_to_calibrate_keeps_the_thresholds(tiny_model, folders, tmp_path):
    out = tmp_path / "room.kws"
    result = kws(
        "calibrate", tiny_model.path, "--negatives", folders / "negatives" / "flat", "--out", out
    )
    assert result.exit_code == 0
    assert "as before" in result.stdout
    assert "0.5 per hour or fewer: 3 s cannot show fewer than 1300 per hour" in result.stdout
    assert Spotter.load(out).events == Spotter.load(tiny_model.path).events


@pytest.mark.slow
def test_measurements_at_the_old_threshold_are_dropped(tiny_model, folders, tmp_path):
    document = read_model(tiny_model.path).info.document
    low = {
        **document,
        "events": {**document["events"], "threshold": [0.01]},
        "confusables": {"clips": 10, "alarms": 9},
    }
    copy_with_document(
        tiny_model.path, {**low, "calibration": {"hours": 0.0, "rows": []}}, tmp_path / "low.kws"
    )
    kws(
        "calibrate",
        tmp_path / "low.kws",
        "--negatives",
        folders / "negatives",
        "--out",
        tmp_path / "room.kws",
    )
    after = read_model(tmp_path / "room.kws").info.document
    assert after["events"]["threshold"][0] > 0.01
    assert low.keys() - after.keys() == {"confusables", "latency_seconds"}


@pytest.mark.slow
def test_a_threshold_that_was_raised_on_purpose_stays(tiny_model, folders, tmp_path):
    document = read_model(tiny_model.path).info.document
    raised = {
        **document,
        "events": {**document["events"], "threshold": [0.995]},
        "confusables": {"clips": 10, "alarms": 0},
    }
    copy_with_document(tiny_model.path, raised, tmp_path / "raised.kws")
    result = kws(
        "calibrate",
        tmp_path / "raised.kws",
        "--negatives",
        folders / "negatives",
        "--out",
        tmp_path / "room.kws",
    )
    assert result.exit_code == 0
    assert "rise: threshold 0.9950, as before" in result.stdout
    assert read_model(tmp_path / "room.kws").info.document["confusables"] == raised["confusables"]


@pytest.mark.slow
def test_a_model_can_be_calibrated_in_place(tmp_path, folders):
    model = make_model(tmp_path, make_network())
    assert (
        kws(
            "calibrate", model, "--negatives", folders / "negatives" / "flat", "--out", model
        ).exit_code
        == 0
    )
    assert "calibration" in read_model(model).info.document
    assert make_config().words == Spotter.load(model).words
