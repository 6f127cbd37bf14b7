"""Output of events in each format, and clips."""

import csv
import errno
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.audio.recordings import DEFAULT_SELECTION
from kws.errors import KwsError
from kws.runtime.postprocess import Detection
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
