"""Scoring: every recording on its own, as `kws detect` does it, and events at any threshold."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import make_dataset
from tones import RATE, tone_word
from tracks import detect, make_track, wandering

from kws import Spotter
from kws.errors import AudioError
from kws.runtime.postprocess import Detection
from kws.training.data.clips import find_clips
from kws.training.data.dataset import load_clips
from kws.training.evaluate.calibration import THRESHOLDS
from kws.training.evaluate.metrics import CURVE_THRESHOLDS
from kws.training.evaluate.scoring import (
    LOWEST_THRESHOLD,
    Candidate,
    ScoredRecording,
    ScoredWord,
    StreamResult,
    count_alarms,
    count_hits,
    map_in_parallel,
    score_clips,
    score_recording,
    score_recordings,
    score_streams,
    score_words,
)
from kws.training.evaluate.test_streams import EvaluationStreams, embed_word

SECONDS = 4.0


@pytest.fixture(scope="module")
def spotter(tiny_model) -> Spotter:
    return Spotter.load(tiny_model.path)


@pytest.fixture(scope="module")
def streams(tiny_model) -> EvaluationStreams:
    dataset = load_clips(find_clips(tiny_model.data / "rise")[:20], warn=print)
    hiss = 0.1 * np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32)
    return EvaluationStreams(dataset, [hiss], snrs_db=(None, 0.0), seconds=SECONDS, seed=0)


@pytest.fixture(scope="module")
def results(spotter, streams) -> list[StreamResult]:
    return list(score_streams(spotter, 0, streams))


def write_words(path: Path, repeats: int) -> float:
    """A recording of two "rise" among other words; returns its seconds."""
    rng = np.random.default_rng(3)
    pause = np.zeros(RATE // 2, np.float32)
    words = [tone_word(word, rng) for word in ("rise", "fall", "rise", "flat")]
    wave = np.concatenate([np.concatenate([word, pause]) for word in words])
    soundfile.write(path, np.tile(wave, repeats), RATE)
    return repeats * len(wave) / RATE


# Events at any threshold


@pytest.mark.parametrize("seed", range(3))
def test_candidates_contain_the_events_at_every_higher_threshold(seed):
    track = make_track(wandering(2000, seed))
    recording = ScoredRecording(40.0, tuple(detect(track, LOWEST_THRESHOLD)))
    expected = [detect(track, threshold) for threshold in THRESHOLDS]
    assert [recording.events({"word": each}) for each in THRESHOLDS] == expected
    counts = count_alarms([recording], "word", THRESHOLDS)
    assert counts.tolist() == [len(events) for events in expected]
    assert counts[0] > 20


def test_alarms_of_words_and_recordings_are_counted_apart():
    loud, quiet = (Detection(word, 0.0, 0.5, 0.6, 0.8) for word in ("loud", "quiet"))
    recordings = [ScoredRecording(1.0, (loud, quiet)), ScoredRecording(1.0, (loud,))]
    assert count_alarms(recordings, "loud", [0.5, 0.8, 0.9]).tolist() == [2, 2, 0]
    assert count_alarms(recordings, "quiet", [0.5]).tolist() == [1]
    assert count_alarms([], "quiet", [0.5, 0.6]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("peaks", "hit", "duplicates", "false_alarms"),
    [
        ([], None, [], []),
        ([5.1], 5.1, [], []),
        ([4.65, 5.75], 4.65, [5.75], []),
        ([4.64, 5.76], None, [], [4.64, 5.76]),
        ([5.1, 5.2, 5.3], 5.1, [5.2, 5.3], []),
        ([1.0, 5.1, 5.6, 9.0], 5.1, [5.6], [1.0, 9.0]),
    ],
    ids=["none", "one", "both limits", "beside the limits", "one hit per word", "all kinds"],
)
def test_each_event_is_a_hit_a_duplicate_or_a_false_alarm(peaks, hit, duplicates, false_alarms):
    events = [Detection("word", peak - 0.5, peak, peak, 0.9) for peak in peaks]
    word = ScoredWord(4.5, 5.0, tuple(Candidate(event, event.peak + 0.12) for event in events))
    match = word.match(0.9)
    assert (match.hit.event.peak if match.hit else None) == hit
    assert [event.peak for event in match.duplicates] == duplicates
    assert [event.peak for event in match.false_alarms] == false_alarms
    assert word.match(0.91).hit is None and word.best_score == (0.9 if hit else 0)


def test_the_best_score_is_the_highest_threshold_with_a_hit():
    words = []
    for seed in range(20):
        events = detect(make_track(wandering(300, seed)), 0.0)
        words.append(ScoredWord(2.0, 2.6, tuple(Candidate(each, each.peak) for each in events)))
    found = [[word.match(threshold).hit is not None for word in words] for threshold in THRESHOLDS]
    assert count_hits(words, THRESHOLDS).tolist() == np.sum(found, axis=1).tolist()
    assert 0 < np.sum(found[-1]) < np.sum(found[0])


# Words in streams


def test_streams_give_the_events_of_kws_detect(spotter, streams, results, tmp_path):
    for each in results[:6]:
        path = tmp_path / "stream.wav"
        soundfile.write(path, streams.audio(each.stream), RATE, subtype="FLOAT")
        hits = [] if each.missed else [each.match.hit.event]
        assert list(spotter.detect(path)) == [*hits, *each.false_alarms]


def test_clean_words_are_detected_where_they_are(results):
    clean = [each for each in results if each.stream.snr_db is None]
    assert sum(not each.missed for each in clean) >= 18
    for each in clean:
        if each.match.hit:
            event, seconds = each.match.hit.event, each.match.hit.decision_seconds
            assert event.start == pytest.approx(each.stream.start, abs=0.15)
            assert 0.12 - 1e-6 <= seconds - event.peak <= 0.16 + 1e-6
            assert each.best_score >= event.score


def test_hits_at_a_threshold_are_those_of_a_model_with_that_threshold(spotter, streams, results):
    for threshold in CURVE_THRESHOLDS[::20]:
        other = Spotter(spotter.engine, replace(spotter.events, threshold=(threshold,)))
        found = [not each.missed for each in score_streams(other, 0, streams)]
        assert [each.best_score >= threshold for each in results] == found


def test_an_event_after_the_end_of_the_audio_belongs_to_its_end(spotter, tiny_model):
    """The word may end the audio: its events are reported by then."""
    wave = load_clips(find_clips(tiny_model.data / "rise")[:1], warn=print)[0]
    embedded = embed_word(wave, (0.05, len(wave) / RATE - 0.05), tail_seconds=0.0)
    (event,) = spotter.detect(embedded.audio)
    recording = score_clips(spotter, [embedded.audio])[0]
    assert [each for each in recording.candidates if each.score == event.score] == [event]
    assert recording.seconds == len(embedded.audio) / RATE
    assert event.peak <= round(recording.seconds, 3)


def test_words_are_scored_in_their_order_and_only_as_many_as_have_endpoints(spotter, tiny_model):
    dataset = load_clips(find_clips(tiny_model.data / "rise")[:4], warn=print)
    endpoints = np.array([[0.05, 0.3], [0.06, 0.35], [0.07, 0.4]])
    words = list(score_words(spotter, 0, dataset, endpoints))
    assert [(word.start, word.end) for word in words] == [
        (2.0 + start, 2.0 + end) for start, end in endpoints.tolist()
    ]


def test_a_word_at_an_unknown_place_is_a_hit_wherever_it_is(spotter, tmp_path):
    seconds = write_words(tmp_path / "words.wav", 1)
    wave, _ = soundfile.read(tmp_path / "words.wav", dtype="float32")
    places = np.array([[np.nan, np.nan], [seconds - 0.3, seconds]])
    anywhere, at_the_end = score_words(spotter, 0, [wave, wave], places)
    assert anywhere.match(0.5).hit is not None and not anywhere.match(0.5).false_alarms
    assert at_the_end.match(0.5).hit is None and at_the_end.match(0.5).false_alarms


# Recordings without the words


def test_a_clip_does_not_depend_on_the_clip_before(spotter, streams):
    waves = [streams.audio(stream) for stream in streams.all[:4]]
    together = score_clips(spotter, make_dataset(*waves))
    alone = [score_clips(spotter, make_dataset(wave))[0] for wave in waves]
    assert together == alone
    assert any(each.candidates for each in alone)


def test_recordings_are_counted_as_kws_detect_counts(spotter, tiny_model, tmp_path):
    seconds = write_words(tmp_path / "a.wav", 8)  # longer than a block
    recording = score_recording(spotter, tmp_path / "a.wav")
    assert recording.seconds == pytest.approx(seconds)
    own = {"rise": spotter.events.threshold[0]}
    assert recording.events(own) == list(spotter.detect(tmp_path / "a.wav"))
    assert len(recording.events(own)) >= 8
    for threshold in CURVE_THRESHOLDS[::15]:
        other = Spotter.load(tiny_model.path, threshold=threshold)
        assert count_alarms([recording], "rise", [threshold]) == len(
            list(other.detect(tmp_path / "a.wav"))
        )


def test_damaged_recordings_come_back_as_errors_in_their_place(spotter, tiny_model, tmp_path):
    good = find_clips(tiny_model.data / "fall")[0]
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    (tmp_path / "garbage.wav").write_bytes(b"RIFF of another kind")
    clips = [*find_clips(tmp_path), good]
    results = list(score_recordings(spotter, clips))
    assert [isinstance(each, AudioError) for each in results] == [True, True, True, False]
    for clip, error in zip(clips[:3], results, strict=False):
        assert str(error).startswith(f"{clip.path}: ")
    assert results[-1].path == good.path


def test_a_muted_microphone_is_no_evidence(spotter, tmp_path):
    soundfile.write(tmp_path / "muted.wav", np.zeros(40 * RATE), RATE)
    soundfile.write(tmp_path / "quiet.wav", np.full(40 * RATE, 0.001), RATE)
    muted, quiet = score_recordings(spotter, find_clips(tmp_path))
    assert str(muted) == f"{tmp_path / 'muted.wav'}: there is no sound in it. Record it again."
    assert quiet.path == tmp_path / "quiet.wav"


# In parallel


def test_an_interrupt_does_not_wait_for_a_long_recording(spotter, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.full(40 * 60 * RATE, 0.001, np.float32), RATE)
    start = time.perf_counter()
    score_recording(spotter, tmp_path / "long.wav")
    whole = time.perf_counter() - start

    start = time.perf_counter()
    threading.Timer(0.1 * whole, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        list(score_recordings(spotter, find_clips(tmp_path)))
    assert time.perf_counter() - start < 0.7 * whole


def test_results_keep_their_order_and_errors_come_out():
    assert list(map_in_parallel(lambda x: x * x, range(100))) == [x * x for x in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(map_in_parallel(lambda x: 1 // x, [1, 2, 0, 3]))
