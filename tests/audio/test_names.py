"""Unusual names of files and folders on the command line: links, other forms of Unicode, control
characters, long names, URLs."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from factories import make_document, make_model, make_network
from tones import write_tone_folder

from kws.audio.addresses import is_url, reject_url
from kws.cli.main import main
from kws.errors import KwsError
from kws.files import check_writable, write_atomically
from kws.runtime.model_file import find_model, read_model
from kws.runtime.postprocess import Detection
from kws.terminal.describe import describe
from kws.terminal.printers import EventWriter
from kws.terminal.stdio import escape_control_chars
from kws.training.model.export import export
from kws.training.report.text import summary

pytestmark = pytest.mark.slow

NFC, NFD = "gr\u00fcezi", "gru\u0308ezi"
ODD, ODD_SHOWN = "a\nb\x1b[31m\x85\u202etxt", r"a\nb\x1b[31m\u0085\u202etxt"
UNPRINTABLE = {
    *map(chr, [*range(0x20), *range(0x7F, 0xA0)]),
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029",
}
QUICK = ("--epochs", "1", "--steps-per-epoch", "1")
FAST = ("--snr", "clean", "--stream-seconds", "3")


def kws(*arguments: object) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def errors(result: Result) -> list[str]:
    return [
        line.removeprefix("Error: ")
        for line in result.stderr.splitlines()
        if line.startswith("Error: ")
    ]


def warnings(result: Result) -> list[str]:
    return [
        line.removeprefix("Warning: ")
        for line in result.stderr.splitlines()
        if line.startswith("Warning: ")
    ]


@pytest.fixture
def place(
    tmp_path: Path, tone_recording: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A current folder with a recording of the word at 1 s and at 3.5 s."""
    monkeypatch.chdir(tmp_path)
    return tone_recording(tmp_path / "twice.wav", [1.0, 3.5])


@pytest.fixture
def detect(place: Path, model_path: Path) -> Callable[..., Result]:
    return lambda *arguments: kws("detect", "--model", model_path, "--threshold", 0.5, *arguments)


def files(result: Result) -> list[str]:
    return [json.loads(line)["file"] for line in result.stdout.splitlines()]


def make_changed_model(path: Path, **changes: object) -> Path:
    network = make_network()
    export(network, {**make_document(network), **changes}, path)
    return path


# Links and kinds


def test_detect_follows_links(place: Path, detect: Callable[..., Result]) -> None:
    Path("real").mkdir()
    place.rename("real/twice.wav")
    Path("sl").mkdir()
    Path("sl/l").symlink_to("../real")
    Path("sl/again").symlink_to("l")
    Path("real/up").symlink_to("..")
    result = detect("--json", "sl")
    assert (result.exit_code, files(result), result.stderr) == (0, ["sl/again/twice.wav"] * 2, "")


def test_detect_reports_broken_links(place: Path, detect: Callable[..., Result]) -> None:
    Path("sl").mkdir()
    place.rename("sl/twice.wav")
    Path("sl/gone.wav").symlink_to("/nowhere.wav")
    result = detect("--json", "sl")
    assert (result.exit_code, files(result)) == (1, ["sl/twice.wav"] * 2)
    assert errors(result) == ["sl: a broken link (gone.wav to /nowhere.wav). Repair or remove it."]


def test_detect_reads_files_with_audio_signatures_and_counts_the_rest(
    place: Path, detect: Callable[..., Result]
) -> None:
    Path("archive").mkdir()
    place.rename("archive/20240115.rec")
    for name in ("a.xyz", "b.xyz", "c.abc", "notes.txt"):
        Path("archive", name).write_text("hello")
    result = detect("--json", "archive")
    assert (result.exit_code, files(result)) == (0, ["archive/20240115.rec"] * 2)
    assert result.stderr == (
        "Warning: archive: 3 files of unknown kind are skipped (.xyz, .abc). "
        "Name them to read them.\n"
    )


def test_training_takes_words_from_links(tmp_path: Path) -> None:
    whole = write_tone_folder(tmp_path / "whole", 12)
    data = tmp_path / "data"
    data.mkdir()
    for name, link in (
        ("rise", "rise"),
        ("fall", "other"),
        ("_background_noise_", "_background_noise_"),
    ):
        (data / link).symlink_to(whole / name)
    result = kws(
        "train",
        "rise",
        "--data",
        data,
        "--out",
        tmp_path / "m.kws",
        "--negatives",
        data / "rise",
        "--negatives",
        whole,
        *QUICK,
    )
    assert result.exit_code == 0, result.stderr
    assert (
        f"{data / 'rise'}: 12 recordings in folders named after a word are not counted as "
        "audio without it."
    ) in warnings(result)


def test_evaluation_takes_words_from_links(tiny_model, tmp_path: Path) -> None:
    for folder, link, target in (
        ("words", "rise", "rise"),
        ("radio", "songs", "fall"),
        ("radio", "more", "rise"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / link).symlink_to(tiny_model.data / target)
    result = kws(
        "evaluate",
        tiny_model.path,
        "--positives",
        tmp_path / "words",
        "--negatives",
        tmp_path / "radio",
        *FAST,
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["results"][0]["clips"], report["negatives"]["recordings"]) == (60, 60)
    assert warnings(result) == [
        "60 recordings in folders named after a word are not counted as audio without it."
    ]


# Forms of Unicode


@pytest.mark.parametrize(("there", "given"), [(NFD, NFC), (NFC, NFD)])
def test_files_and_models_are_found_in_either_form(place: Path, there: str, given: str) -> None:
    Path("models").mkdir()
    made = make_model(Path("models"), make_network(), there)
    assert find_model(given).samefile(made) and find_model(f"models/{given}.kws").samefile(made)
    Path(there).mkdir()
    place.rename(f"{there}/{there}.wav")
    for source in (given, f"{given}/{given}.wav"):
        result = kws("detect", "--model", given, "--threshold", 1, source)
        assert (result.exit_code, result.stderr) == (0, "")
    assert kws("stream", "--model", given, "--threshold", 1, f"{given}/{given}.wav").exit_code == 0
    assert f"Known: {NFC}, " in kws("info", "none").stderr


@pytest.mark.parametrize(("there", "given"), [(NFD, NFC), (NFC, NFD)])
def test_a_word_is_trained_and_evaluated_in_either_form(
    tmp_path: Path, there: str, given: str
) -> None:
    data, radio = (
        write_tone_folder(tmp_path / "data", 12),
        write_tone_folder(tmp_path / "radio", 12),
    )
    for folder in (data, radio):
        (folder / "rise").rename(folder / there)
    out = tmp_path / "m.kws"
    result = kws(
        "train",
        given,
        "--data",
        data,
        "--negatives",
        radio,
        "--in-context",
        data,
        "--recordings",
        data,
        "--out",
        out,
        *QUICK,
    )
    assert result.exit_code == 0, result.stderr
    assert (
        f"{radio}: 12 recordings in folders named after a word are not counted as audio without it."
        in warnings(result)
    )
    assert read_model(out).info.words == (NFC,)
    result = kws("evaluate", out, "--positives", data, "--negatives", radio, *FAST, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["results"][0]["clips"] == 12
    assert (
        "12 recordings in folders named after a word are not counted as audio without it."
        in warnings(result)
    )


def test_a_model_of_a_word_in_decomposed_form_is_evaluated(tmp_path: Path) -> None:
    """Models that were renamed by hand may have such words."""
    data = write_tone_folder(tmp_path / "data", 12)
    (data / "rise").rename(data / NFC)
    made = make_changed_model(tmp_path / "m.kws", words=[NFD])
    result = kws("evaluate", made, "--positives", data, *FAST, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["results"][0]["clips"] == 12


def test_clips_are_named_in_composed_form(place: Path, detect: Callable[..., Result]) -> None:
    place.rename(f"{NFD}.wav")
    assert detect(f"{NFC}.wav", "--save-clips", "clips", "-q").exit_code == 0
    assert {path.name.split("_")[0] for path in Path("clips").iterdir()} == {NFC}


# Control characters


@pytest.mark.parametrize("letter", sorted(UNPRINTABLE))
def test_invisible_characters_are_escaped(letter: str) -> None:
    shown = escape_control_chars(f"a{letter}b")
    assert (
        shown.isascii() and shown.isprintable() and shown.startswith("a\\") and shown.endswith("b")
    )


def test_visible_characters_stay() -> None:
    assert escape_control_chars("日本 ü\u00a0é👩‍🚀 שלום.wav") == "日本 ü\u00a0é👩‍🚀 שלום.wav"


def test_text_is_escaped_and_json_and_csv_are_exact(
    place: Path, detect: Callable[..., Result]
) -> None:
    place.rename(f"{ODD}.wav")
    text = detect(f"{ODD}.wav")
    assert [line.split("  ")[0] for line in text.stdout.split("\n")] == [f"{ODD_SHOWN}.wav"] * 2 + [
        ""
    ]
    assert files(detect("--json", f"{ODD}.wav")) == [f"{ODD}.wav"] * 2
    rows = list(csv.DictReader(io.StringIO(detect("--csv", f"{ODD}.wav").stdout, newline="")))
    assert [row["file"] for row in rows] == [f"{ODD}.wav"] * 2


def test_words_are_escaped_and_columns_aligned() -> None:
    event = Detection("hey\tyou\x1b", 0.5, 1.0, 1.0, 0.9)
    for form in ("text", "labels"):
        out = io.StringIO()
        writer = EventWriter(out, form, ["a\n.wav", "b.wav"], [event.word])
        for file in ("a\n.wav", "b.wav"):
            writer.write(file, event)
        lines = out.getvalue().split("\n")
        assert len(lines) == 3 and r"hey\tyou\x1b" in lines[0] and len(lines[0]) == len(lines[1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", "{}.wav"],
        ["detect", "--model", "{}", "twice.wav"],
        ["stream", "{}.wav"],
        ["info", "{}.kws"],
        ["info", "{}"],
        ["train", "{}", "--data", "."],
        ["train", "x", "--data", "{}"],
        ["train", "x", "--data", ".", "--out", "twice.wav/{}.kws"],
        ["evaluate", "welcome", "--positives", "{}"],
        ["calibrate", "welcome", "--negatives", "{}"],
        ["synth", "--list", "{}", "--out", "x"],
        ["synth", "word", "--engine", "{}", "--out", "x"],
        ["{}"],
        ["detect", "--{}", "twice.wav"],
        ["detect", "twice.wav", "--threshold", "{}"],
        ["stream", "--format", "{}"],
    ],
    ids=" ".join,
)
def test_messages_on_stderr_are_escaped(place: Path, arguments: list[str]) -> None:
    result = kws(*(argument.format(ODD) for argument in arguments))
    assert result.exit_code in (1, 2)
    assert not UNPRINTABLE - {"\n"} & set(result.stderr)
    assert (
        len(errors(result)) == 1
        and result.stderr.splitlines()[-1].startswith("Error: ")
        and r"b\x1b[31m" in result.stderr
    )


def test_warnings_are_escaped(tmp_path: Path) -> None:
    data = write_tone_folder(tmp_path / "data", 20)
    (data / "rise" / f"{ODD}_nohash_0.wav").write_bytes(b"no sound")
    result = kws("train", "rise", "--data", data, "--out", tmp_path / f"{ODD}.kws", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert any(f"{ODD_SHOWN}_nohash_0.wav" in warning for warning in warnings(result))
    assert f"{ODD_SHOWN}.kws (calibrated on" in result.stderr
    assert not UNPRINTABLE - {"\n", "\r"} & set(result.stderr)


def test_a_model_is_described_without_control_characters(tmp_path: Path) -> None:
    info = read_model(
        make_changed_model(tmp_path / "m.kws", words=["hey\x1b[2J"], notes=ODD, **{ODD: {ODD: ODD}})
    ).info
    assert not UNPRINTABLE - {"\n"} & set(describe(info))
    assert describe(info).count(ODD_SHOWN) == 4


def test_figures_hold_no_control_characters(tiny_model) -> None:
    result = kws("evaluate", tiny_model.path, "--positives", tiny_model.data, *FAST, "--json")
    report = json.loads(result.stdout)
    report["model"], report["results"][0]["word"] = ODD, ODD
    assert not UNPRINTABLE - {"\n"} & set(summary(report))
    assert summary(report).count(ODD_SHOWN) == 2


# Long names


@pytest.mark.parametrize("letter", ["n", "ü", "語"])
def test_clips_of_a_long_name(place: Path, detect: Callable[..., Result], letter: str) -> None:
    stem = letter * (240 // len(letter.encode()))
    place.rename(f"{stem}.wav")
    result = detect(f"{stem}.wav", "--save-clips", "clips", "--json")
    assert (result.exit_code, len(files(result)), result.stderr) == (0, 2, "")
    assert len([soundfile.info(path) for path in Path("clips").iterdir()]) == 2


def test_a_clip_that_fails_loses_nothing_else(place: Path, detect: Callable[..., Result]) -> None:
    shutil.copy(place, "other.wav")
    starts = [
        json.loads(line)["start"] for line in detect("twice.wav", "--json").stdout.splitlines()
    ]
    Path("clips", f"twice_{starts[0]:.2f}_rise.wav").mkdir(parents=True)
    result = detect("twice.wav", "other.wav", "--save-clips", "clips", "--json")
    assert (result.exit_code, files(result)) == (1, ["twice.wav"] * 2 + ["other.wav"] * 2)
    assert (
        len(errors(result)) == 1
        and f"clips/twice_{starts[0]:.2f}_rise.wav: cannot be written" in errors(result)[0]
    )
    assert len([path for path in Path("clips").iterdir() if path.is_file()]) == 3


@pytest.mark.parametrize("length", [246, 251])
def test_a_model_of_a_long_name_is_trained(tiny_model, tmp_path: Path, length: int) -> None:
    radio = tmp_path / "radio"
    radio.mkdir()
    soundfile.write(
        radio / "hiss.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000 * 5), 16_000
    )
    out = tmp_path / f"{'m' * length}.kws"
    result = kws(
        "train",
        "rise",
        "--data",
        tiny_model.data,
        "--hard-negatives-from",
        radio,
        "--out",
        out,
        *QUICK,
    )
    assert result.exit_code == 0, result.stderr
    assert out.exists() and out.with_suffix(".pt").exists()
    assert not [
        path
        for path in tmp_path.iterdir()
        if "partial" in path.name or "epoch" in path.name or path.name.endswith(".part")
    ]
    assert (
        kws(
            "train",
            "rise",
            "--data",
            tiny_model.data,
            "--hard-negatives-from",
            radio,
            "--out",
            out,
            "--resume",
            *QUICK,
        ).exit_code
        == 0
    )


def test_a_name_that_no_model_can_have_is_refused_before_anything_is_read(
    tiny_model, tmp_path: Path
) -> None:
    result = kws(
        "train", "rise", "--data", tiny_model.data, "--out", tmp_path / f"{'m' * 252}.kws", *QUICK
    )
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "File name too long" in result.stderr and result.stderr.count("\n") == 1


def test_words_that_make_a_long_name_give_a_model(tmp_path: Path) -> None:
    data = write_tone_folder(tmp_path / "data", 10)
    words = [f"{name}{'x' * 100}" for name in ("rise", "fall")]
    for word in words:
        (data / word[:4]).rename(data / word)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = kws("train", *words, "--data", data, *QUICK)
        assert result.exit_code == 0, result.stderr
        assert any(path.name.startswith(words[0]) for path in Path("models").iterdir())


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str) -> None:
    check_writable(tmp_path / name)
    write_atomically(tmp_path / name, b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"whole")]
    with pytest.raises(KwsError, match="File name too long"):
        check_writable(tmp_path / f"{name}nn")


# URLs


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        (
            "https://example.org/talk.mp3",
            "Pipe it: curl -sL https://example.org/talk.mp3 | kws detect -",
        ),
        (
            "HTTP://example.org/a?b=c&d",
            "Pipe it: curl -sL 'HTTP://example.org/a?b=c&d' | kws detect -",
        ),
        ("ftp://a.b/c.wav", "Pipe it: curl -sL ftp://a.b/c.wav | kws detect -"),
        ("s3://bucket/c.wav", "Pipe it: aws s3 cp s3://bucket/c.wav - | kws detect -"),
        ("gs://bucket/c.wav", "Pipe it: gcloud storage cat gs://bucket/c.wav | kws detect -"),
        ("rtsp://camera/1", "Pipe it: ffmpeg -v error -i rtsp://camera/1 -f wav - | kws detect -"),
        ("file:///tmp/a%20b.wav", "Give the path: '/tmp/a b.wav'"),
        ("file://localhost/a.wav", "Give the path: /a.wav"),
        ("magnet+x://c.wav", "Fetch it first, and give the path."),
    ],
)
def test_detect_says_how_to_fetch_a_url_and_reads_the_others(
    detect: Callable[..., Result], name: str, advice: str
) -> None:
    result = detect("--json", name, "twice.wav")
    assert (result.exit_code, files(result)) == (1, ["twice.wav"] * 2)
    (error,) = errors(result)
    assert error.startswith(f"{name}: a URL, and kws ") and error.endswith(advice)


@pytest.mark.parametrize(
    "arguments",
    [
        ["stream", "URL"],
        ["info", "URL"],
        ["detect", "twice.wav", "--model", "URL"],
        ["detect", "twice.wav", "--save-clips", "URL"],
        ["detect", "twice.wav", "--plot", "URL"],
        ["train", "x", "--data", "URL"],
        ["train", "x", "--data", ".", "--negatives", "URL"],
        ["train", "x", "--data", ".", "--out", "URL"],
        ["train", "x", "--data", ".", "--init-from", "URL"],
        ["evaluate", "URL", "--positives", "."],
        ["evaluate", "welcome", "--positives", "URL"],
        ["evaluate", "welcome", "--positives", ".", "--html", "URL"],
        ["calibrate", "welcome", "--negatives", "URL"],
        ["record", "word", "--out", "URL"],
        ["synth", "word", "--out", "URL"],
        ["synth", "--list", "URL", "--out", "x"],
        ["synth", "word", "--out", "x", "--piper-voice", "URL"],
        ["download", "librispeech", "--dir", "URL"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_urls(place: Path, arguments: list[str]) -> None:
    address = "https://example.org/a.kws"
    result = kws(*(argument.replace("URL", address) for argument in arguments))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert (
        errors(result)[0].startswith(f"{address}: a URL, and kws reads")
        and f"curl -sL {address}" in result.stderr
    )
    assert os.listdir() == ["twice.wav"]  # noqa: PTH208


def test_an_existing_file_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_url("http://a.wav") and not any(
        map(is_url, ["a.wav", "C:/a.wav", "a b://c.wav", "/a://b"])
    )
    Path("http:").mkdir()
    Path("http:/a.wav").touch()
    assert not is_url("http://a.wav")
    reject_url("http://a.wav")
