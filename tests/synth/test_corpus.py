"""`kws synth` as a user meets it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from kws.synth.engines.registry import ENGINES

pytestmark = pytest.mark.slow

KWS = [sys.executable, "cli.py"]


ROOT = Path(__file__).parents[2]


def kws(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*KWS, "synth", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


class TestCommand:
    def test_a_folder_with_a_blank_and_a_higher_count(self, tmp_path):
        out = tmp_path / "my voices"
        done = kws("Hey, you", "--out", out, "--count", 4, "--engine", "hibari", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["engines"] == {"hibari": 4}
        first = {path.name: path.stat().st_mtime_ns for path in (out / "hey_you").glob("*.wav")}
        assert len(first) == 4
        kws("Hey, you", "--out", out, "--count", 6, "--engine", "hibari")
        after = {path.name: path.stat().st_mtime_ns for path in (out / "hey_you").glob("*.wav")}
        assert len(after) == 6
        assert first.items() <= after.items()

    @pytest.mark.parametrize(
        ("arguments", "status", "expected"),
        [
            ((), 2, "Give phrases and a folder"),
            (("welcome",), 2, "Give phrases and a folder"),
            (("42", "--out", "OUT"), 1, "numbers as words"),
            (("welcome", "--out", "OUT", "--engine", "siri"), 1, "is no engine"),
            (("welcome", "--out", "OUT", "--phonemes", "welcome"), 1, "no phoneme of ARPAbet"),
            (("one", "two", "--out", "OUT", "--phonemes", "W AH1 N"), 2, "one phrase at a time"),
            (("its", "it's", "--out", "OUT"), 1, "would share a folder"),
            (
                ("welcome", "--out", "OUT", "--engine", "pico", "--phonemes", "W AH1 N"),
                1,
                "takes a pronunciation",
            ),
            (("welcome", "--out", "OUT", "--piper-voice", "absent.onnx"), 1, "no such file"),
        ],
    )
    def test_wrong_arguments(self, tmp_path, arguments, status, expected):
        done = kws(*(tmp_path / "out" if argument == "OUT" else argument for argument in arguments))
        assert done.returncode == status
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()

    def test_engines_are_listed(self):
        done = kws("--list-engines")
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == [*ENGINES]
        engines = json.loads(kws("--list-engines", "--json").stdout)
        assert {name: each["missing"] for name, each in engines.items()} == {
            name: engine.missing() for name, engine in ENGINES.items()
        }

    def test_ctrl_c_leaves_whole_clips_and_no_process(self, tmp_path):
        running = subprocess.Popen(
            [*KWS, "synth", "welcome", "--out", tmp_path, "--count", "4000", "--engine", "hibari"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        for _ in range(600):
            if len([*tmp_path.rglob("*.wav")]) > 3:
                break
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=10)
        assert running.returncode == 130
        assert "Traceback" not in stderr
        clips = [*tmp_path.rglob("*.wav")]
        assert 3 < len(clips) < 4000
        assert all(soundfile.info(path).frames for path in clips if not path.name.startswith("."))
