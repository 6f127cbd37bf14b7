"""Speech engines: how they are chosen, and the installed ones."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from hummer import HUMMER
from onnx import TensorProto, helper

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import SynthError
from kws.runtime.spotter import Spotter
from kws.synth.engines import espeak
from kws.synth.engines.piper import engine_from_voice_file
from kws.synth.engines.registry import ENGINES, select_engines
from kws.synth.plan import PlannedClip, plan_clips
from kws.synth.render import speak

VOICE = (
    '{"num_speakers": 10, "num_symbols": 256, "phoneme_id_map": {}, '
    '"audio": {"sample_rate": 22050}}'
)


def write_model(path: Path, *inputs: str) -> None:
    """A model of these inputs that adds up all of them."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (*inputs, "output")
    ]
    graph = helper.make_graph(
        [helper.make_node("Sum", inputs, ["output"])], "sum", values[:-1], values[-1:]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


def clips_of(*texts: str, count: int = 3) -> list[PlannedClip]:
    return plan_clips(texts, count, [HUMMER], 0)


class TestEngines:
    def test_unknown_engine(self):
        with pytest.raises(SynthError, match=r"'siri' is no engine\. There are kokoro, piper"):
            select_engines(["siri"])

    def test_an_engine_named_twice_speaks_once(self):
        assert [engine.name for engine in select_engines(["hibari", "hibari"]).available] == [
            "hibari"
        ]

    def test_two_voice_files_of_one_name(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            write_model(tmp_path / folder / "v.onnx", "input", "input_lengths", "scales")
            (tmp_path / folder / "v.onnx.json").write_text(VOICE)
        with pytest.raises(SynthError, match="two voice files of this name"):
            select_engines(["hibari"], [str(tmp_path / folder / "v.onnx") for folder in ("a", "b")])

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"\x00\x01\x02\x03" * 50, "cannot be started (Exec format error)"),
            (
                b"#!/bin/sh\necho x: error while loading shared libraries: liby.so >&2\nexit 127\n",
                "x: error while loading shared libraries",
            ),
            (b"#!/bin/sh\nexit 3\n", "ended with status 3: no message"),
            (b"#!/nowhere/sh\n", "cannot be started (No such file or directory)"),
        ],
        ids=["no program", "library missing", "silent", "no interpreter"],
    )
    @pytest.mark.parametrize(
        ("engine", "program"),
        [("espeak", "espeak-ng"), ("flite", "flite"), ("festival", "festival")],
    )
    def test_a_program_that_does_not_run_is_named(
        self, tmp_path, monkeypatch, engine, program, content, reason
    ):
        (tmp_path / program).write_bytes(content)
        (tmp_path / program).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SynthError) as raised:
            select_engines([engine])
        assert str(raised.value).startswith(
            f"{engine} needs a program {program} that works ({program} "
        ) and reason in str(raised.value)
        assert "\n" not in str(raised.value)
        assert engine in [each.name for each, _ in select_engines().unavailable]
        with pytest.raises(SynthError, match=program):
            ENGINES[engine].speak(
                "word",
                ENGINES[engine].settings(ENGINES[engine].voices()[0], np.random.default_rng(0)),
            )

    def test_without_engines_the_error_says_how_to_install_each(self, monkeypatch):
        unavailable = {
            name: replace(engine, missing=lambda: "something") for name, engine in ENGINES.items()
        }
        monkeypatch.setattr("kws.synth.engines.registry.ENGINES", unavailable)
        with pytest.raises(SynthError, match="no speech engine") as raised:
            select_engines()
        assert all(
            f"{name} needs something: {engine.install}" in str(raised.value)
            for name, engine in ENGINES.items()
        )
        with pytest.raises(SynthError, match="flite needs something"):
            select_engines(["flite"])

    @pytest.mark.parametrize(
        ("files", "spec", "message"),
        [
            ({}, "v.onnx", "no such file"),
            ({"v.onnx": ""}, "v.onnx", "v.onnx.json: no such file"),
            ({"v.onnx": "", "v.onnx.json": "hello"}, "v.onnx", "does not describe"),
            ({"v.onnx": "", "v.onnx.json": "[]"}, "v.onnx", "does not describe"),
            ({"v.onnx": "", "v.onnx.json": '{"num_speakers": 10}'}, "v.onnx", "does not describe"),
            ({"v.onnx": "", "v.onnx.json": VOICE}, "v.onnx", "is no voice, or a damaged one"),
            ({"v.onnx": "hello", "v.onnx.json": VOICE}, "v.onnx", "is no voice, or a damaged one"),
            ({"v.onnx": "", "v.onnx.json": VOICE}, "v.onnx#3-10", "this voice has 0 to 9"),
            ({"v.onnx": "", "v.onnx.json": VOICE}, "v.onnx#²", "this voice has 0 to 9"),
            ({"v.onnx": "", "v.onnx.json": VOICE}, "v.onnx#all", "this voice has 0 to 9"),
            ({"v.onnx": "", "v.onnx.json": VOICE}, "v.onnx#5-2", "this voice has 0 to 9"),
        ],
    )
    def test_files_that_are_no_piper_voice(self, tmp_path, files, spec, message):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(SynthError, match=message):
            engine_from_voice_file(str(tmp_path / spec))

    def test_a_voice_where_piper_is_not_installed(self, tmp_path, monkeypatch):
        for package in ("piper", "onnxruntime"):
            monkeypatch.setitem(sys.modules, package, None)
        (tmp_path / "v.onnx").touch()
        (tmp_path / "v.onnx.json").write_text(VOICE)
        with pytest.raises(SynthError, match="piper-v needs the package piper-tts"):
            select_engines(["hibari"], [str(tmp_path / "v.onnx")])

    @pytest.mark.parametrize(
        ("spec", "voices"), [("v.onnx", 10), ("v.onnx#7", 1), ("v.onnx#2-5", 4)]
    )
    def test_speakers_of_a_piper_voice(self, tmp_path, spec, voices):
        write_model(tmp_path / "v.onnx", "input", "input_lengths", "scales", "sid")
        (tmp_path / "v.onnx.json").write_text(VOICE)
        assert len(engine_from_voice_file(str(tmp_path / spec)).voices()) == voices

    def test_a_model_that_is_no_voice(self, tmp_path):
        write_model(tmp_path / "v.onnx", "audio", "state")
        (tmp_path / "v.onnx.json").write_text(VOICE)
        with pytest.raises(SynthError, match="is a model, but no Piper voice"):
            engine_from_voice_file(str(tmp_path / "v.onnx"))


REAL = [
    "hibari",
    "pico",
    pytest.param("flite", marks=pytest.mark.flite),
    pytest.param("espeak", marks=pytest.mark.espeak),
]


class TestRealEngines:
    @pytest.mark.parametrize("name", REAL)
    def test_clips_differ_and_have_the_length_of_a_word(self, name, tmp_path):
        engine = ENGINES[name]
        assert engine.missing() is None
        result = speak(plan_clips(["welcome"], 4, [engine], 0), [engine], tmp_path, jobs=1)
        waves = [soundfile.read(tmp_path / clip.file)[0] for clip in result.clips]
        assert len({wave.tobytes() for wave in waves}) == 4
        assert all(0.25 < len(wave) / SAMPLE_RATE < 1.5 for wave in waves)

    def test_the_shipped_model_detects_synthetic_speech(self, tmp_path):
        engine = ENGINES["hibari"]
        result = speak(
            plan_clips(["welcome", "become"], 6, [engine], 1), [engine], tmp_path, jobs=1
        )
        spotter = Spotter.load("welcome")
        detected = Counter(
            clip.text for clip in result.clips if any(spotter.detect(tmp_path / clip.file))
        )
        assert detected["welcome"] >= 5
        assert detected["become"] == 0

    @pytest.mark.espeak
    def test_phonemes_replace_the_spelling(self):
        engine = ENGINES["espeak"]
        settings = {"voice": "en-us", "words_per_minute": 160, "pitch": 50}
        spelled, wrong = (
            engine.speak("welcome", {**settings, **more})[0]
            for more in ({}, {"phonemes": "T AH0 M AA1 T OW0"})
        )
        same = engine.speak("tomato", {**settings, "phonemes": "T AH0 M AA1 T OW0"})[0]
        assert np.array_equal(wrong, same)
        assert not np.array_equal(spelled, wrong)

    @pytest.mark.espeak
    @pytest.mark.parametrize(
        ("settings", "spelling"),
        [
            ({}, "the other hero, or he"),
            ({"phrase": "he"}, "the other hero, or he"),
            ({"phrase": "he", "phonemes": "HH AY1"}, "the other hero, or [[h'aI]]"),
            ({"phrase": "hero", "stress": "own"}, "the other [[h'i@roU]], or he"),
            ({"phrase": "hero", "stress": "weak"}, "the other [[h,i@roU]], or he"),
            (
                {"phrase": "hero", "stress": "weak", "phonemes": "HH IH2 R OW1"},
                "the other [[hIr,oU]], or he",
            ),
        ],
    )
    def test_a_phrase_in_a_sentence_has_its_own_phonemes_and_stress(self, settings, spelling):
        text = "the other hero, or he"
        assert espeak._spell(text, {"voice": "en-us", **settings}) == spelling
