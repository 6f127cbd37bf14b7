"""Each form of output says the same events; clips and pictures are whole or not there at all."""

import csv
import errno
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.audio.recordings import DEFAULT_SELECTION
from kws.errors import KwsError, MissingExtraError
from kws.files import check_writable, write_atomically
from kws.runtime.postprocess import Detection, Scores
from kws.terminal.plot import plot
from kws.terminal.printers import FIELDS, FORMATS, ClipFolder, EventWriter

FILES = ["a.wav", "folder/a longer name.flac"]
EVENTS = [
    (FILES[0], Detection("yes", 0.5, 0.984, 1.02, 0.9312)),
    (FILES[1], Detection("hey you", 3725.125, 3725.75, 3725.9, 1.0)),
]


def write_events(form: str, events: list = EVENTS) -> str:
    out = io.StringIO()
    writer = EventWriter(out, form, FILES, ["yes", "hey you"])
    for file, event in events:
        writer.write(file, event)
    return out.getvalue()


def test_text_is_aligned() -> None:
    assert write_events("text") == (
        "a.wav                      yes          0.50      0.98  0.93\n"
        "folder/a longer name.flac  hey you   3725.12   3725.75  1.00\n"
    )  # fmt: skip


def test_json_lines() -> None:
    rows = [json.loads(line) for line in write_events("json").splitlines()]
    assert rows == [
        dict(zip(FIELDS, (f, e.word, e.start, e.end, e.peak, e.score), strict=True))
        for f, e in EVENTS
    ]
    assert list(rows[0]) == ["file", "word", "start", "end", "peak", "score"]


def test_csv_has_a_header_and_quotes() -> None:
    odd = [(name, EVENTS[0][1]) for name in ('say "hi", twice\n.wav', "a\nb.wav", "a\rb.wav")]
    rows = list(csv.DictReader(io.StringIO(write_events("csv", odd), newline="")))
    assert [row["file"] for row in rows] == [name for name, _ in odd]
    assert rows[:1] == [
        {
            "file": odd[0][0],
            "word": "yes",
            "start": "0.5",
            "end": "0.984",
            "peak": "1.02",
            "score": "0.9312",
        }
    ]
    assert write_events("csv", []) == "file,word,start,end,peak,score\n"


def test_labels_are_an_audacity_track() -> None:
    assert write_events("labels") == "0.500000\t0.984000\tyes\n3725.125000\t3725.750000\they you\n"


class CountingFlushes(io.StringIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


@pytest.mark.parametrize("form", FORMATS)
def test_every_event_is_flushed(form: str) -> None:
    out = CountingFlushes()
    writer = EventWriter(out, form, FILES, ["yes"])
    before = out.flushes
    writer.write(*EVENTS[0])
    assert out.flushes == before + 1 and out.getvalue().endswith("\n")


class Broken(io.StringIO):
    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def flush(self) -> None:
        raise OSError(self.number, "No space left on device")


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, KwsError), (errno.EPIPE, BrokenPipeError)]
)
def test_output_that_cannot_be_written(number: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        EventWriter(Broken(number), "text", FILES, ["yes"]).write(*EVENTS[0])


# Clips


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_clip_is_the_audio_around_the_event(tmp_path: Path, rate: int) -> None:
    times = np.arange(5 * rate) / rate
    soundfile.write(
        tmp_path / "talk.flac",
        0.5 * np.sin(2 * np.pi * 300 * times) * ((times > 2) & (times < 3)),
        rate,
    )
    target = ClipFolder(tmp_path / "clips", DEFAULT_SELECTION).save(
        tmp_path / "talk.flac", Detection("hey you", 2.0, 3.0, 3.1, 0.9)
    )
    assert target == tmp_path / "clips" / "talk_2.00_hey-you.wav"
    clip, clip_rate = soundfile.read(target)
    assert clip_rate == 16_000 and len(clip) == round(1.5 * 16_000)
    loud = np.flatnonzero(np.abs(clip) > 0.05) / 16_000
    assert loud[0] == pytest.approx(0.25, abs=0.01) and loud[-1] == pytest.approx(1.25, abs=0.01)


def test_clips_at_the_edges_are_shorter(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    clips = ClipFolder(tmp_path, DEFAULT_SELECTION)
    for start, end, seconds in ((0.1, 0.5, 0.75), (0.5, 1.0, 0.75)):
        clip = clips.save(tmp_path / "a.wav", Detection("yes", start, end, end, 0.9))
        assert soundfile.info(clip).duration == pytest.approx(seconds)


def test_recordings_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    clips = ClipFolder(tmp_path / "clips", DEFAULT_SELECTION)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "a.wav", np.zeros(16_000), 16_000)
        clips.save(tmp_path / folder / "a.wav", EVENTS[0][1])
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == [
        "a_0.50_yes.wav",
        "a_0.50_yes_2.wav",
    ]


@pytest.mark.parametrize("name", ["new.wav", "old.wav", "folder", "new/folder/x.wav"])
def test_trying_a_place_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.wav").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    check_writable(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "old.wav"]
    assert (tmp_path / "old.wav").read_bytes() == b"old"


@pytest.mark.parametrize(
    "name", ["old.wav/x.wav", "old.wav/new/x.wav", f"{300 * 'n'}/x.wav", f"new/{300 * 'n'}x.wav"]
)
def test_places_that_cannot_be_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.wav").touch()
    with pytest.raises(
        KwsError, match=r"x\.wav: cannot be written \(.*\)\. Make room, or write elsewhere"
    ):
        check_writable(tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        KwsError, match=r"file/x\.wav: cannot be written \(.*\)\. Make room, or write elsewhere"
    ):
        write_atomically(tmp_path / "file" / "x.wav", b"new")


def test_a_pipe_gets_the_bytes_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.html"
    os.mkfifo(pipe)
    cat_process = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    check_writable(pipe)
    write_atomically(pipe, b"page")
    assert cat_process.communicate()[0] == b"page"
    assert pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.html").write_bytes(b"old")
    (tmp_path / "link.html").symlink_to(tmp_path / "there" / "real.html")
    write_atomically(tmp_path / "link.html", b"new")
    assert (tmp_path / "link.html").is_symlink() and (
        tmp_path / "there" / "real.html"
    ).read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["real.html"]


def test_standard_output_can_be_named(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from kws.files import *; p = Path('/dev/stdout'); "
        "check_writable(p); write_atomically(p, b'page')"
    )
    write = [sys.executable, "-c", code]
    assert subprocess.run(write, stdout=subprocess.PIPE, check=True).stdout == b"page"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(write, stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"page"
    assert Path("/dev/stdout").is_symlink()


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.wav"
    target.write_bytes(b"old")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(KwsError, match="No space left on device"):
        write_atomically(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"] and target.read_bytes() == b"old"


# Plots


def scores(seconds: float, words: int) -> Scores:
    times = np.arange(0.02, seconds, 0.02)
    pooled = np.random.default_rng(0).random((len(times), words)).astype(np.float32)
    return Scores(times, pooled, pooled, np.zeros((len(times), words, 2), np.float32))


@pytest.mark.parametrize(
    ("seconds", "words", "events"),
    [
        (3.0, {"yes": 0.5}, [EVENTS[0][1]]),
        (2.0, {"yes": 0.5, "no": 0.9}, []),
        (0.001, {"yes": 0.5}, []),
    ],
    ids=["one event", "two words", "next to nothing"],
)
def test_a_plot_is_a_png(
    tmp_path: Path, seconds: float, words: dict[str, float], events: list[Detection]
) -> None:
    samples = np.random.default_rng(0).standard_normal(int(seconds * 16_000)).astype(np.float32)
    plot(tmp_path / "p.png", samples, scores(seconds, len(words)), events, words)
    head = (tmp_path / "p.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:]) == (1560, 858)


def test_a_plot_marks_its_events(tmp_path: Path) -> None:
    pictures = []
    for events in ([], [EVENTS[0][1]]):
        plot(tmp_path / "p.png", np.zeros(32_000, np.float32), scores(2.0, 1), events, {"yes": 0.5})
        pictures.append((tmp_path / "p.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_without_matplotlib_the_error_tells_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[plot\]'"):
        plot(tmp_path / "p.png", np.zeros(16_000, np.float32), scores(1.0, 1), [], {"yes": 0.5})


def test_importing_the_plot_does_not_import_matplotlib() -> None:
    code = "import sys, kws.terminal.plot; sys.exit('matplotlib' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]
        ).returncode
        == 0
    )
