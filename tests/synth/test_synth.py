"""Words from text: what can be asked for, who is to say it, and what comes out; with real engines
where they are installed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from hummer import HUMMER, hum
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sounds import quiet, tone

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import KwsError, SynthError
from kws.runtime.spotter import Spotter
from kws.synth import phonemes, phrase, pronunciation
from kws.synth.audio import MARGIN_SECONDS, PEAK_LEVEL, from_pcm, postprocess
from kws.synth.engines.piper import engine_from_voice_file
from kws.synth.engines.registry import ENGINES, select_engines
from kws.synth.plan import PAUSE_PROBABILITY, PlannedClip, _allocate, file_under_word, plan_clips
from kws.synth.render import read_manifest, speak
from kws.training.data.splits import parse_speaker

KWS = [sys.executable, "cli.py"]
ROOT = Path(__file__).parents[2]
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


OTHER = replace(HUMMER, name="other", share=0.1, voices=lambda: ("one",), takes_phonemes=False)


class TestPhrase:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Welcome", "welcome"),
            ("  Hey,  You! ", "hey you"),
            ("café", "cafe"),
            ("don't stop", "don't stop"),
            ("rock 'n' roll", "rock n roll"),
            ("o’clock", "o'clock"),
            ("x-ray", "x ray"),
            ("ok", "ok"),
            ("hey AI", "hey A.I."),
            ("A.I.", "A.I."),
            ("u.s.a", "U.S.A."),
            ("AI", "A.I."),
            ("the TVs on", "the T.V.'s on"),
            ("AI's day", "A.I.'s day"),
            ("the LED lamp", "the L.E.D. lamp"),
            ("tell US", "tell U.S."),
            ("LED", "led"),
            ("IT", "it"),
            ("STOP", "stop"),
            ("HEY YOU", "hey you"),
            ("HEY AI", "hey A.I."),
            ("call NASA", "call nasa"),
            ("hey SNOWBOY", "hey snowboy"),
            ("ask BBC", "ask B.B.C."),
            ("what am I", "what am i"),
        ],
    )
    def test_what_is_said(self, text, expected):
        assert phrase.normalize(text) == expected
        assert phrase.normalize(expected) == expected

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "too short"),
            ("a", "too short"),
            ("?!", "too short"),
            ("' '", "too short"),
            ("route 66", "numbers as words"),
            ("привет", "cannot read"),
            ("小爱", "cannot read"),
            ("straße hæ", "cannot read æ"),
            ("one two three four five six seven eight nine ten eleven twelve", "12 words"),
        ],
    )
    def test_what_cannot_be(self, text, complaint):
        with pytest.raises(SynthError, match=complaint):
            phrase.normalize(text)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("hey you", []),
            ("Hey You", []),
            ("hey A.I.", []),
            (
                "hey AI",
                ["'AI' is spoken letter by letter. For a word write ai, or give --phonemes."],
            ),
            (
                "LED",
                ["'LED' is spoken like any word. For letters write L.E.D., or give --phonemes."],
            ),
            (
                "NASA",
                ["'NASA' is spoken like any word. For letters write N.A.S.A., or give --phonemes."],
            ),
            (
                "HEY YOU",
                [
                    (
                        "'HEY', 'YOU' are spoken like any word. For letters write H.E.Y. "
                        "Y.O.U., or give --phonemes."
                    )
                ],
            ),
        ],
    )
    def test_capitals_are_remarked(self, text, told):
        assert phrase.explain_capitals(text) == told

    @pytest.mark.parametrize("text", ["US", "LED", "IT", "hey AI", "the TVs", "HEY YOU", "NASA"])
    def test_what_the_remark_says_is_so(self, text):
        (note,) = phrase.explain_capitals(text)
        other = note.split(" write ")[1].removesuffix(", or give --phonemes.")
        assert phrase.normalize(other) != phrase.normalize(text)
        assert not phrase.explain_capitals(other)

    def test_without_a_dictionary_capitals_are_letters_within_a_phrase(self, monkeypatch):
        monkeypatch.setattr(pronunciation, "is_installed", lambda: False)
        assert [phrase.normalize(text) for text in ("hey AI", "the US", "BBC", "STOP")] == [
            "hey A.I.",
            "the U.S.",
            "B.B.C.",
            "stop",
        ]

    def test_folder_names_have_no_blanks(self):
        assert phrase.folder_name("don't stop me") == "dont_stop_me"
        assert (
            phrase.folder_name(phrase.normalize("hey AI"))
            == phrase.folder_name(phrase.normalize("hey a.i."))
            == "hey_ai"
        )


class TestPhonemes:
    @pytest.mark.parametrize(
        ("given", "normalize"),
        [
            ("W EH1 L K AH0 M", "W EH1 L K AH0 M"),
            ("w eh1 l k ah0 m", "W EH1 L K AH0 M"),
            ("W EH L K AH M", "W EH1 L K AH0 M"),
            ("S N OW1 B OY2", "S N OW1 B OY2"),
        ],
    )
    def test_checked(self, given, normalize):
        assert phonemes.normalize(given) == normalize

    @pytest.mark.parametrize("given", ["W EH1 Q", "welcome", "K1 AE", "K L", "", "EH3 N", "AE11 N"])
    def test_no_pronunciation(self, given):
        with pytest.raises(SynthError, match="CMU dictionary"):
            phonemes.normalize(given)

    @pytest.mark.parametrize(
        ("given", "kokoro", "espeak"),
        [
            ("W EH1 L K AH0 M", "wˈɛlkəm", "w'Elk@m"),
            ("S N OW1 B OY2", "snˈObˌY", "sn'oUb,OI"),
            ("B ER1 D", "bˈɜɹd", "b'3:d"),
            ("B AH1 T ER0", "bˈʌtəɹ", "b'Vt3"),
        ],
    )
    def test_as_engines_write_them(self, given, kokoro, espeak):
        assert phonemes.to_kokoro(given) == kokoro
        assert phonemes.to_espeak(given) == espeak


class TestSound:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
    @pytest.mark.parametrize("size", [0.85, 1.0, 1.2])
    def test_pauses_go_and_pitch_and_length_follow_the_size(self, rate, size):
        time = np.arange(round(0.4 * rate)) / rate
        made = postprocess(
            np.concatenate([np.zeros(rate), 0.1 * np.sin(2 * np.pi * 500 * time), np.zeros(rate)]),
            rate,
            size,
        )
        assert len(made) / SAMPLE_RATE == pytest.approx(0.4 / size + 2 * MARGIN_SECONDS, abs=0.03)
        assert np.abs(made).max() == pytest.approx(PEAK_LEVEL, abs=1e-4)
        spectrum = np.abs(np.fft.rfft(made))
        assert spectrum.argmax() * SAMPLE_RATE / len(made) == pytest.approx(500 * size, abs=5)

    def test_a_click_far_off_is_dropped_and_one_close_by_is_kept(self):
        word, click = tone(0.3), tone(0.01)
        far = postprocess(np.concatenate([click, quiet(0.4), word]), SAMPLE_RATE)
        close = postprocess(np.concatenate([click, quiet(0.1), word]), SAMPLE_RATE)
        assert len(far) / SAMPLE_RATE == pytest.approx(0.3 + MARGIN_SECONDS, abs=0.03)
        assert len(close) / SAMPLE_RATE == pytest.approx(0.41, abs=0.03)

    def test_silence_stays_silence(self):
        assert not postprocess(quiet(0.5), SAMPLE_RATE).any()

    def test_half_a_sample_is_dropped(self):
        assert len(from_pcm(b"\x00\x01\x02")) == 1


class TestPlan:
    def test_shares_and_voices(self):
        clips = plan_clips(["hey you"], 400, [HUMMER, OTHER], seed=0)
        assert Counter(clip.engine for clip in clips) == {"hummer": 300, "other": 100}
        assert {
            Counter(clip.settings["voice"] for clip in clips)[voice]
            for voice in ("low", "high", "odd")
        } == {100}
        assert len({clip.file for clip in clips}) == 400
        assert {clip.file.parent for clip in clips} == {Path("hey_you")}

    def test_same_seed_same_plan(self):
        assert plan_clips(["word"], 20, [HUMMER], 3) == plan_clips(["word"], 20, [HUMMER], 3)
        assert plan_clips(["word"], 20, [HUMMER], 3) != plan_clips(["word"], 20, [HUMMER], 4)

    @given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(1, 60))
    def test_more_clips_take_from_no_engine(self, shares, count):
        fewer, more = (np.array(_allocate(number, shares)) for number in (count, count + 1))
        assert fewer.sum() == count
        assert more.sum() == count + 1
        assert (more >= fewer).all()
        np.testing.assert_allclose(fewer, np.array(shares) / sum(shares) * count, atol=2.0)

    def test_more_clips_and_more_phrases_leave_the_others_as_they_were(self):
        few = plan_clips(["word"], 40, [HUMMER, OTHER], 0)
        assert set(map(str, few)) < set(map(str, plan_clips(["word"], 80, [HUMMER, OTHER], 0)))
        assert set(map(str, few)) < set(
            map(str, plan_clips(["before", "word"], 40, [HUMMER, OTHER], 0))
        )

    def test_pronunciations_take_turns_by_engines_that_take_them(self):
        clips = plan_clips(["word"], 40, [HUMMER, OTHER], 0, ["W ER1 D", "W AO1 D"])
        assert Counter(clip.settings["phonemes"] for clip in clips) == {
            "W ER1 D": 20,
            "W AO1 D": 20,
        }
        assert not {clip.file for clip in clips} & {
            clip.file for clip in plan_clips(["word"], 40, [HUMMER], 0)
        }
        with pytest.raises(SynthError, match="takes a pronunciation"):
            plan_clips(["word"], 40, [OTHER], 0, ["W ER1 D"])

    @pytest.mark.parametrize("letter", ["v", "ü"])
    def test_long_names_of_voices_fit_and_stay_apart(self, letter):
        names = [letter * (250 // len(letter.encode())) + end for end in ("a", "b")]
        engine = replace(HUMMER, voices=lambda: names)
        clips = plan_clips(["hey you"], 40, [engine], 0)
        clips += [file_under_word(clip, "word") for clip in clips]
        assert len({clip.file for clip in clips}) == 80
        assert all(len(os.fsencode(clip.file.name)) <= 255 for clip in clips)
        assert len({parse_speaker(clip.file) for clip in clips}) == len(names)

    def test_letters_are_given_to_the_engines_as_letters(self):
        texts = {clip.text for clip in plan_clips([phrase.normalize("hey AI")], 40, [HUMMER], 0)}
        assert texts == {"hey A.I.", "hey, A.I."}

    def test_some_pause_between_two_words(self):
        expected = Counter(
            clip.text for clip in plan_clips(["hey you there"], 400, [HUMMER, OTHER], 0)
        )
        assert set(expected) == {"hey you there", "hey, you there", "hey you, there"}
        assert (400 - expected["hey you there"]) / 400 == pytest.approx(PAUSE_PROBABILITY, abs=0.06)
        assert {clip.text for clip in plan_clips(["word"], 40, [HUMMER], 0)} == {"word"}

    def test_training_sees_voices_as_speakers(self):
        from kws.training.data.splits import parse_speaker

        speakers = {
            parse_speaker(clip.file) for clip in plan_clips(["word"], 40, [HUMMER, OTHER], 0)
        }
        assert speakers == {"hummer-low", "hummer-high", "hummer-odd", "other-one"}


def clips_of(*texts: str, count: int = 3) -> list[PlannedClip]:
    return plan_clips(texts, count, [HUMMER], 0)


class TestSpeaking:
    @pytest.mark.parametrize("jobs", [1, 2])
    def test_clips_and_table(self, tmp_path, jobs):
        result = speak(clips_of("word", "longer", count=20), [HUMMER], tmp_path, jobs=jobs)
        assert len(result.clips) == 40
        rows = read_manifest(tmp_path)
        assert [row["file"] for row in rows] == sorted(
            clip.file.as_posix() for clip in result.clips
        )
        for row in rows:
            info = soundfile.info(tmp_path / row["file"])
            assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
            assert float(row["seconds"]) == pytest.approx(info.duration, abs=1e-3)
            size = json.loads(row["settings"])["size"]
            assert info.duration == pytest.approx(0.1 * len(row["text"]) / size, abs=0.05)
            assert row["licence"] == "CC0"

    def test_what_is_there_is_left_alone_and_what_is_missing_is_made_the_same(self, tmp_path):
        clips = clips_of("word", count=6)
        speak(clips, [HUMMER], tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.wav")}
        gone, kept = sorted(before)[0], sorted(before)[1]
        gone.unlink()
        kept.write_bytes(before[kept] + b"edited")
        speak(clips, [HUMMER], tmp_path)
        assert gone.read_bytes() == before[gone]
        assert kept.read_bytes() == before[kept] + b"edited"

    def test_the_table_keeps_earlier_phrases(self, tmp_path):
        speak(clips_of("word"), [HUMMER], tmp_path)
        speak(clips_of("other"), [HUMMER], tmp_path)
        assert Counter(row["text"] for row in read_manifest(tmp_path)) == {"word": 3, "other": 3}

    @pytest.mark.parametrize(
        ("text", "trouble"),
        [("fox", "cannot say x"), ("quit", "no sound"), ("crash", "ValueError: a bug")],
    )
    def test_what_an_engine_cannot_say_costs_nothing_else(self, tmp_path, text, trouble):
        result = speak(clips_of("word", text), [HUMMER], tmp_path)
        assert len(result.clips) == 3
        assert len(result.failed) == 3
        assert all(trouble in told for _, told in result.failed)
        assert {row["text"] for row in read_manifest(tmp_path)} == {"word"}

    def test_a_table_that_another_program_has_changed(self, tmp_path):
        speak(clips_of("word"), [HUMMER], tmp_path)
        table = tmp_path / "clips.csv"
        for content in (table.read_text().replace(",", ";").encode(), b"\xe9,caf\xe9\n1,2\n"):
            table.write_bytes(content)
            with pytest.raises(SynthError, match=r"clips\.csv: is not the table"):
                speak(clips_of("other"), [HUMMER], tmp_path)
        assert not (tmp_path / "other").exists()

    def test_a_clip_that_is_none(self, tmp_path):
        clip = clips_of("word")[0]
        (tmp_path / clip.file).parent.mkdir()
        (tmp_path / clip.file).touch()
        with pytest.raises(SynthError, match="is no clip of kws synth"):
            speak(clips_of("word"), [HUMMER], tmp_path)

    def test_what_was_there_keeps_its_row(self, tmp_path):
        clips = clips_of("word")
        speak(clips, [HUMMER], tmp_path)
        before = read_manifest(tmp_path)
        changed = [replace(clip, settings={**clip.settings, "voice": "another"}) for clip in clips]
        speak(changed, [HUMMER], tmp_path)
        assert read_manifest(tmp_path) == before

    def test_engines_prepare_once_before_they_speak_side_by_side(self, tmp_path):
        prepared = []
        engine = replace(HUMMER, prepare=lambda: prepared.append(len([*tmp_path.rglob("*.wav")])))
        speak(clips_of("word", count=20), [engine], tmp_path, jobs=2)
        speak(clips_of("word", count=20), [engine], tmp_path, jobs=2)
        assert prepared == [0]

    def test_a_process_that_is_killed_ends_it_and_costs_nothing_that_was_spoken(self, tmp_path):
        def crash(text, settings):
            return os._exit(1) if text == "word 5" else hum(text, settings)

        clips = [clip for number in range(10) for clip in clips_of(f"word {number}", count=8)]
        with pytest.raises(SynthError, match="ended its process"):
            speak(clips, [replace(HUMMER, speak=crash)], tmp_path, jobs=2)
        there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.wav")}
        assert {row["file"] for row in read_manifest(tmp_path)} == there
        assert len(speak(clips, [HUMMER], tmp_path, jobs=2).clips) == len(clips)

    def test_nothing_can_be_said(self, tmp_path):
        with pytest.raises(SynthError, match="'fox' could not be spoken: hummer: cannot say x"):
            speak(clips_of("fox"), [HUMMER], tmp_path)
        assert not [*tmp_path.rglob("*")]

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(KwsError, match="cannot be written"):
            speak(clips_of("word"), [HUMMER], tmp_path / "file")


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

    def test_none_installed_says_how_to_get_each(self, monkeypatch):
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
        ("files", "wish", "complaint"),
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
    def test_what_is_no_piper_voice(self, tmp_path, files, wish, complaint):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(SynthError, match=complaint):
            engine_from_voice_file(str(tmp_path / wish))

    @pytest.mark.parametrize(
        ("wish", "voices"), [("v.onnx", 10), ("v.onnx#7", 1), ("v.onnx#2-5", 4)]
    )
    def test_speakers_of_a_piper_voice(self, tmp_path, wish, voices):
        write_model(tmp_path / "v.onnx", "input", "input_lengths", "scales", "sid")
        (tmp_path / "v.onnx.json").write_text(VOICE)
        assert len(engine_from_voice_file(str(tmp_path / wish)).voices()) == voices

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
    def test_clips_differ_and_are_as_long_as_a_word(self, name, tmp_path):
        engine = ENGINES[name]
        assert engine.missing() is None
        result = speak(plan_clips(["welcome"], 4, [engine], 0), [engine], tmp_path, jobs=1)
        waves = [soundfile.read(tmp_path / clip.file)[0] for clip in result.clips]
        assert len({wave.tobytes() for wave in waves}) == 4
        assert all(0.25 < len(wave) / SAMPLE_RATE < 1.5 for wave in waves)

    def test_the_shipped_model_hears_what_is_spoken(self, tmp_path):
        engine = ENGINES["hibari"]
        result = speak(
            plan_clips(["welcome", "become"], 6, [engine], 1), [engine], tmp_path, jobs=1
        )
        spotter = Spotter.load("welcome")
        heard = Counter(
            clip.text for clip in result.clips if any(spotter.detect(tmp_path / clip.file))
        )
        assert heard["welcome"] >= 5
        assert heard["become"] == 0

    @pytest.mark.espeak
    def test_a_pronunciation_is_another_sound_than_the_spelling(self):
        engine = ENGINES["espeak"]
        settings = {"voice": "en-us", "words_per_minute": 160, "pitch": 50}
        spelled, wrong = (
            engine.speak("welcome", {**settings, **more})[0]
            for more in ({}, {"phonemes": "T AH0 M AA1 T OW0"})
        )
        same = engine.speak("tomato", {**settings, "phonemes": "T AH0 M AA1 T OW0"})[0]
        assert np.array_equal(wrong, same)
        assert not np.array_equal(spelled, wrong)


def kws(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*KWS, "synth", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


class TestCommand:
    def test_speaks_into_a_folder_with_a_blank_and_goes_on(self, tmp_path):
        out = tmp_path / "my voices"
        done = kws("Hey, you", "--out", out, "--count", 4, "--engine", "hibari", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["engines"] == {"hibari": 4}
        first = {path.name: path.stat().st_mtime_ns for path in (out / "hey_you").glob("*.wav")}
        assert len(first) == 4
        kws("Hey, you", "--out", out, "--count", 6, "--engine", "hibari")
        then = {path.name: path.stat().st_mtime_ns for path in (out / "hey_you").glob("*.wav")}
        assert len(then) == 6
        assert first.items() <= then.items()

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
    def test_mistakes(self, tmp_path, arguments, status, expected):
        done = kws(*(tmp_path / "out" if argument == "OUT" else argument for argument in arguments))
        assert done.returncode == status
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()

    def test_engines_are_listed(self):
        done = kws("--list-engines")
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == [*ENGINES]
        told = json.loads(kws("--list-engines", "--json").stdout)
        assert {name: each["missing"] for name, each in told.items()} == {
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
        _, told = running.communicate(timeout=10)
        assert running.returncode == 130
        assert "Traceback" not in told
        made = [*tmp_path.rglob("*.wav")]
        assert 3 < len(made) < 4000
        assert all(soundfile.info(path).frames for path in made if not path.name.startswith("."))
