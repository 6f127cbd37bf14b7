"""Test streams: the word is at its place, in noise at the SNR."""

import numpy as np
import pytest
from sounds import RATE, make_dataset, quiet, tone

from kws.errors import DataError
from kws.training.evaluate.test_streams import EvaluationStreams, drop_silent_noises, pink_noise

WORD = np.concatenate([quiet(0.2), tone(0.4), quiet(0.1)])
HISS = 0.1 * np.random.default_rng(0).standard_normal(30 * RATE).astype(np.float32)


def make_streams(
    *,
    clips: int = 1,
    wave: np.ndarray = WORD,
    snrs_db=(None, 10.0),
    noises=(HISS,),
    seconds: float = 4.0,
    seed: int = 0,
    positions=(),
):
    return EvaluationStreams(
        make_dataset(*[wave] * clips),
        noises,
        snrs_db=snrs_db,
        seconds=seconds,
        seed=seed,
        positions=positions,
    )


def test_one_stream_per_clip_and_noise_level():
    made = make_streams(clips=3, snrs_db=(None, 20.0, 0.0)).all
    assert [(each.clip, each.snr_db) for each in made] == [
        (clip, snr) for clip in range(3) for snr in (None, 20.0, 0.0)
    ]


def test_the_word_is_at_its_place():
    streams = make_streams(clips=20, snrs_db=(None,))
    for stream in streams.all:
        audio = streams.audio(stream)
        loud = np.flatnonzero(np.abs(audio) > 0.01)
        assert len(audio) == 4 * RATE
        assert (loud[0] / RATE, loud[-1] / RATE) == pytest.approx(
            (stream.start, stream.end), abs=0.011
        )


def test_positions_are_anywhere_in_the_stream():
    starts = [stream.start for stream in make_streams(clips=300, snrs_db=(None,)).all]
    counts, _ = np.histogram(starts, bins=5, range=(0.2, 0.2 + 4.0 - 0.7))
    assert min(counts) > 40


def test_clips_begin_at_the_given_positions():
    streams = make_streams(clips=2, snrs_db=(None, 10.0), positions=(0.0, 1.5, 3.3))
    placed = [(each.clip, each.snr_db, each.lead_seconds) for each in streams.all]
    assert placed == [
        (clip, snr, position)
        for clip in range(2)
        for snr in (None, 10.0)
        for position in (0.0, 1.5, 3.3)
    ]
    assert [each.start - each.lead_seconds for each in streams.all] == pytest.approx(
        [streams.all[0].start] * 12
    )
    assert {len(streams.audio(each)) for each in streams.all} == {4 * RATE}


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0, -5.0])
def test_noise_has_the_given_snr(snr_db):
    streams = make_streams(snrs_db=(None, snr_db))
    clean, noisy = map(streams.audio, streams.all)
    assert streams.all[0].lead_seconds != streams.all[1].lead_seconds
    word = clean[np.abs(clean) > 0.01]
    start, end = (round(time * RATE) for time in (streams.all[1].start, streams.all[1].end))
    noise = np.concatenate([noisy[:start], noisy[end:]])
    louder_half = np.sort(word.astype(float) ** 2)[len(word) // 2 :].mean()
    assert 10 * np.log10(louder_half / np.mean(noise.astype(float) ** 2)) == pytest.approx(
        snr_db, abs=0.5
    )


def test_the_same_seed_gives_the_same_streams():
    first, again, other = (make_streams(clips=2, seed=seed) for seed in (0, 0, 1))
    assert first.all == again.all != other.all
    for stream in first.all:
        np.testing.assert_array_equal(first.audio(stream), again.audio(stream))


def test_more_clips_leave_the_others_where_they_were():
    assert make_streams(clips=5).all[:4] == make_streams(clips=2).all


def test_a_clip_as_long_as_the_stream():
    streams = make_streams(wave=tone(4.0))
    assert [len(streams.audio(stream)) for stream in streams.all] == [4 * RATE] * 2
    assert {stream.lead_seconds for stream in streams.all} == {0.0}


@pytest.mark.parametrize(
    "noise",
    [HISS[:1600], np.concatenate([quiet(60), HISS[:1600], quiet(60)])],
    ids=["shorter than the stream", "nearly all of it silent"],
)
def test_any_noise_fills_the_stream(noise):
    streams = make_streams(clips=10, noises=(noise,), snrs_db=(0.0,))
    for stream in streams.all:
        audio = streams.audio(stream)
        assert np.isfinite(audio).all()
        assert np.sqrt(np.mean(audio**2)) > 0.1


def test_silence_is_no_noise():
    assert len(drop_silent_noises([quiet(1.0), HISS, quiet(0.0)])) == 1
    with pytest.raises(DataError, match=r"nothing but silence.*--background"):
        drop_silent_noises([quiet(1.0)])


def test_pink_noise_falls_by_three_decibels_per_octave():
    (noise,) = pink_noise(0)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [
        power[len(noise) // 2 // 2 ** (k + 1) : len(noise) // 2 // 2**k].mean() for k in range(6)
    ]
    assert 10 * np.log10(np.divide(octaves[1:], octaves[:-1])) == pytest.approx(
        np.full(5, 3.01), abs=0.4
    )
