"""Clips and their table."""

import json
import os
from collections import Counter
from dataclasses import replace

import pytest
import soundfile
from hummer import HUMMER, hum

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import KwsError, SynthError
from kws.synth.plan import PlannedClip, plan_clips
from kws.synth.render import read_manifest, speak

OTHER = replace(HUMMER, name="other", share=0.1, voices=lambda: ("one",), takes_phonemes=False)


def clips_of(*texts: str, count: int = 3) -> list[PlannedClip]:
    return plan_clips(texts, count, [HUMMER], 0)


class TestSpeak:
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

    def test_existing_clips_are_kept_and_missing_ones_are_the_same(self, tmp_path):
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
    def test_a_failure_of_an_engine_stops_no_other_clip(self, tmp_path, text, trouble):
        result = speak(clips_of("word", text), [HUMMER], tmp_path)
        assert len(result.clips) == 3
        assert len(result.failed) == 3
        assert all(trouble in message for _, message in result.failed)
        assert {row["text"] for row in read_manifest(tmp_path)} == {"word"}

    def test_a_table_of_another_program(self, tmp_path):
        speak(clips_of("word"), [HUMMER], tmp_path)
        table = tmp_path / "clips.csv"
        for content in (table.read_text().replace(",", ";").encode(), b"\xe9,caf\xe9\n1,2\n"):
            table.write_bytes(content)
            with pytest.raises(SynthError, match=r"clips\.csv: is not the table"):
                speak(clips_of("other"), [HUMMER], tmp_path)
        assert not (tmp_path / "other").exists()

    def test_a_clip_that_is_no_audio(self, tmp_path):
        clip = clips_of("word")[0]
        (tmp_path / clip.file).parent.mkdir()
        (tmp_path / clip.file).touch()
        with pytest.raises(SynthError, match="is no clip of kws synth"):
            speak(clips_of("word"), [HUMMER], tmp_path)

    def test_existing_clips_keep_their_rows(self, tmp_path):
        clips = clips_of("word")
        speak(clips, [HUMMER], tmp_path)
        before = read_manifest(tmp_path)
        changed = [replace(clip, settings={**clip.settings, "voice": "another"}) for clip in clips]
        speak(changed, [HUMMER], tmp_path)
        assert read_manifest(tmp_path) == before

    def test_engines_prepare_once_before_processes_speak(self, tmp_path):
        prepared = []
        engine = replace(HUMMER, prepare=lambda: prepared.append(len([*tmp_path.rglob("*.wav")])))
        speak(clips_of("word", count=20), [engine], tmp_path, jobs=2)
        speak(clips_of("word", count=20), [engine], tmp_path, jobs=2)
        assert prepared == [0]

    def test_a_killed_process_ends_the_run_and_keeps_its_clips(self, tmp_path):
        def crash(text, settings):
            return os._exit(1) if text == "word 5" else hum(text, settings)

        clips = [clip for number in range(10) for clip in clips_of(f"word {number}", count=8)]
        with pytest.raises(SynthError, match="ended its process"):
            speak(clips, [replace(HUMMER, speak=crash)], tmp_path, jobs=2)
        paths = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.wav")}
        assert {row["file"] for row in read_manifest(tmp_path)} == paths
        assert len(speak(clips, [HUMMER], tmp_path, jobs=2).clips) == len(clips)

    def test_no_clip_can_be_spoken(self, tmp_path):
        with pytest.raises(SynthError, match="'fox' could not be spoken: hummer: cannot say x"):
            speak(clips_of("fox"), [HUMMER], tmp_path)
        assert not [*tmp_path.rglob("*")]

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(KwsError, match="cannot be written"):
            speak(clips_of("word"), [HUMMER], tmp_path / "file")
