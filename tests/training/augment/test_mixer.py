"""Mixed examples: the word at a random place in other sounds, the same for the same seed and
step."""

import numpy as np
import pytest
import torch
from sounds import RATE, make_dataset, quiet, tone
from torch import Tensor

from kws.training.augment.mixer import (
    Batch,
    Boundaries,
    ExampleMixer,
    MixConfig,
    Tempo,
    add_room_tone,
)
from kws.training.data.noise import make_coloured_noise
from kws.training.data.sources import (
    NegativeSource,
    WordClips,
    aligned_word,
    unaligned_word,
    word_in_context,
)

CLIP_SECONDS, EARLIEST_SECONDS = 2.0, 0.9
TONE_PLACE = (0.1, 0.4)  # of the tone in the word's clip
DEFAULT, ONLY_POSITIVES = MixConfig(), MixConfig(positive_fraction=1.0)


def make_mixer(
    words: list[WordClips] | None = None,
    config: MixConfig = DEFAULT,
    *,
    clip_seconds: float = CLIP_SECONDS,
    earliest_end_seconds: float = EARLIEST_SECONDS,
    batch: int = 40,
    seed: int = 0,
) -> ExampleMixer:
    """Words are loud tones, everything else is at least 40 dB weaker."""
    words = words or [
        aligned_word("word", make_dataset(np.concatenate([quiet(0.1), tone(0.3), quiet(0.2)])))
    ]
    murmur = [
        0.005 * make_coloured_noise(RATE * 2 // 3, 0.0, np.random.default_rng(i)).clip(-1, 1)
        for i in range(3)
    ]
    noises = make_dataset(make_coloured_noise(RATE, 1.0, np.random.default_rng(9)) / 500)
    return ExampleMixer(
        list(dict.fromkeys(word.name for word in words)),
        words,
        [NegativeSource(make_dataset(*murmur), 1.0)],
        noises,
        clip_seconds=clip_seconds,
        earliest_end_seconds=earliest_end_seconds,
        batch=batch,
        config=config,
        seed=seed,
    )


@pytest.fixture(scope="module")
def mixer() -> ExampleMixer:
    return make_mixer()


@pytest.fixture(scope="module")
def positives() -> Batch:
    return make_mixer(config=ONLY_POSITIVES)[0]


def loud(audio: Tensor) -> tuple[float, float]:
    """First and last time at which the audio is louder than anything but the word."""
    indices = (audio.abs() > 0.1).nonzero()
    return indices[0].item() / RATE, indices[-1].item() / RATE


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_tempo_is_uneven_but_has_the_speed_on_the_whole(speed):
    tempo = Tempo.draw(RATE, speed, MixConfig(), np.random.default_rng(0))
    before, after = tempo.before, tempo.after
    assert (before[0], before[-1], after[0], after[-1]) == pytest.approx((0, RATE, 0, RATE / speed))
    slowness = np.diff(after) / np.diff(before) * speed
    assert slowness.min() > 0.5
    assert slowness.max() / slowness.min() > 1.2


class TestMixer:
    def test_shapes_and_types(self, mixer):
        batch = mixer[0]
        assert batch.audio.shape == batch.noise.shape == (40, 32_000)
        assert (batch.word.shape, batch.endpoints.shape) == ((40,), (40, 2, 2))
        assert batch.recorded.shape == (40, 2)
        assert batch.audio.dtype == batch.noise.dtype == torch.float32
        assert batch.audio.isfinite().all()
        assert batch.noise.isfinite().all()

    def test_same_seed_and_step_give_the_same_batch(self, mixer):
        for again in (mixer[3], make_mixer()[3]):
            assert all(
                torch.equal(a.nan_to_num(-9), b.nan_to_num(-9))
                for a, b in zip(mixer[3], again, strict=True)
            )

    @pytest.mark.parametrize(("seed", "step"), [(0, 4), (1, 3)], ids=["other step", "other seed"])
    def test_other_seed_or_step_gives_another_batch(self, mixer, seed, step):
        other = make_mixer(seed=seed)[step]
        assert not torch.equal(mixer[3].audio, other.audio)
        assert not torch.equal(mixer[3].noise, other.noise)

    def test_drawing_does_not_change_the_clips(self, mixer):
        datasets = [mixer.words[0].dataset, mixer.negatives[0].dataset, mixer.noises]
        before = [dataset.fingerprint() for dataset in datasets]
        mixer[5]
        assert [dataset.fingerprint() for dataset in datasets] == before

    @pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
    def test_positive_fraction(self, fraction):
        mixer = make_mixer(
            config=MixConfig(positive_fraction=fraction),
            batch=400,
            clip_seconds=1.2,
            earliest_end_seconds=0.5,
        )
        batch = mixer[0]
        assert (batch.word >= 0).float().mean().item() == pytest.approx(
            fraction, abs=0.08 if fraction == 0.4 else 0
        )
        assert torch.equal(batch.word < 0, batch.endpoints.isnan().all(2).all(1))

    def test_endpoints_are_those_of_the_word(self, positives):
        repeated = 0
        for audio, (last, first) in zip(positives.audio, positives.endpoints.tolist(), strict=True):
            # NaN, or over before the clip begins.
            audible_from = first[0] if first[1] > 0 else last[0]
            assert loud(audio) == pytest.approx((max(audible_from, 0), last[1]), abs=0.002)
            repeated += first[1] > 0
        assert 0 < repeated < len(positives.audio) / 2

    def test_repeated_words_do_not_overlap(self):
        endpoints = make_mixer(config=ONLY_POSITIVES, batch=400)[0].endpoints
        pause = endpoints[:, 0, 0] - endpoints[:, 1, 1]
        assert pause.isnan().float().mean() == pytest.approx(
            1 - MixConfig.repeat_fraction, abs=0.06
        )
        assert pause[~pause.isnan()].min() >= 0

    def test_negatives_are_isolated_as_often_as_words(self):
        """The surroundings of a clip do not give away whether it is the word."""
        tones = NegativeSource(make_dataset(tone(0.3)), 1.0)
        mixer = ExampleMixer(
            ["word"],
            [aligned_word("word", make_dataset(tone(0.3)))],
            [tones],
            None,
            clip_seconds=2.0,
            earliest_end_seconds=0.5,
        )
        silent = (mixer[0].audio.abs() < 1e-4).float().mean(1)
        word = mixer[0].word >= 0
        assert silent[word].quantile(0.95).item() == pytest.approx(
            silent[~word].quantile(0.95).item(), abs=0.1
        )

    def test_word_lies_within_the_clip_and_leaves_room_after_it(self, positives):
        start, end = positives.endpoints[:, 0].unbind(1)
        assert (start >= 0).all()
        assert (end >= EARLIEST_SECONDS - 1e-6).all()
        assert (end <= CLIP_SECONDS - 0.2).all()
        assert end.max() - end.min() > 0.6  # anywhere between

    def test_half_of_the_words_change_their_speed(self, positives):
        lengths = (positives.endpoints[:, 0, 1] - positives.endpoints[:, 0, 0]) / (
            TONE_PLACE[1] - TONE_PLACE[0]
        )
        assert 0.3 < (lengths.sub(1).abs() < 0.005).float().mean() < 0.7
        assert 0.7 < lengths.min() < 0.97 < 1.03 < lengths.max() < 1.4

    @pytest.mark.parametrize("make", [aligned_word, unaligned_word])
    @pytest.mark.parametrize("seconds", [0.8, 1.2, 1.5])
    def test_a_clip_that_fits_is_never_cut(self, make, seconds):
        """Both its ends are there, though it may be longer than the earliest end."""
        wave = np.concatenate([tone(0.1), quiet(seconds - 0.2), tone(0.1)])
        batch = make_mixer([make("word", make_dataset(wave))], ONLY_POSITIVES)[0]
        for each in batch.audio[batch.endpoints[:, 1].isnan().all(1)]:  # said once
            first, last = loud(each)
            # Its speed varies; without its first tone next to nothing would be left.
            assert last - first == pytest.approx(seconds, rel=0.3)

    def test_an_unaligned_word_has_no_endpoints(self):
        batch = make_mixer([unaligned_word("word", make_dataset(tone(0.5)))], ONLY_POSITIVES)[0]
        assert (batch.word == 0).all()
        assert batch.endpoints.isnan().all()

    def test_speech_runs_into_a_word_in_context_or_ends_beside_it(self):
        """The word is louder than the speech around it, which is louder than all other speech."""
        before, after = (0.3 * tone(seconds, 3000) for seconds in (2.5, 1.5))
        clip = make_dataset(np.concatenate([before, tone(0.3), after]))
        word = word_in_context("word", clip, np.array([[2.5, 2.8]]))
        batch = make_mixer([word], ONLY_POSITIVES, batch=200)[0]
        pauses: dict[str, list[float]] = {"before": [], "after": []}
        for audio, (place, repetition) in zip(batch.audio, batch.endpoints.tolist(), strict=True):
            if not np.isnan(repetition[0]):
                continue
            assert loud(audio * 0.25) == pytest.approx(place, abs=0.006)  # fades
            speech = (audio.abs() > 0.03).nonzero().squeeze(1) / RATE
            first, last = (round(seconds, 3) for seconds in (speech[0].item(), speech[-1].item()))
            pauses["before"].append(place[0] - first)
            pauses["after"].append(last - place[1])
        for kept in pauses.values():
            assert min(kept) < 0.1
            assert 0.15 < np.mean(np.array(kept) < 0.3) < 0.6
        assert max(pauses["before"]) > 1.0

    def test_some_recordings_are_cut_right_beside_their_words(self):
        batch = make_mixer(config=ONLY_POSITIVES, batch=400)[0]
        start, end = batch.endpoints.double().unbind(2)
        first = torch.minimum(start[:, 0], start[:, 1].nan_to_num(torch.inf)).clamp_min(0)
        seconds_before = first - batch.recorded[:, 0] / RATE
        seconds_after = batch.recorded[:, 1] / RATE - end[:, 0]
        assert min(seconds_before.min(), seconds_after.min()) >= -1e-4
        is_cut = torch.stack([batch.recorded[:, 0] > 0, batch.recorded[:, 1] < 2 * RATE], 1)
        assert is_cut[:, 1].float().mean().item() == pytest.approx(0.2, abs=0.06)
        assert 0.05 < is_cut[:, 0].float().mean() < 0.25  # fewer, where a word was said before
        assert max(seconds_before[is_cut[:, 0]].max(), seconds_after[is_cut[:, 1]].max()) < 0.3

    def test_negatives_are_cut_as_often_as_words(self):
        recorded = make_mixer(config=MixConfig(positive_fraction=0.0), batch=400)[0].recorded
        assert (recorded[:, 1] > recorded[:, 0]).all()
        assert (recorded[:, 1] < 2 * RATE).float().mean().item() == pytest.approx(0.2, abs=0.06)

    def test_several_words_keep_their_names(self):
        words = [
            aligned_word(name, make_dataset(tone(0.3, pitch)))
            for name, pitch in (("low", 400), ("high", 3000), ("low", 450))
        ]
        batch = make_mixer(words, ONLY_POSITIVES)[0]
        spectrum = np.abs(np.fft.rfft(batch.audio.numpy()))
        pitch = spectrum.argmax(axis=1) * RATE / batch.audio.shape[1]
        assert np.array_equal(batch.word.numpy() == 1, pitch > 1000)
        assert set(batch.word.tolist()) == {0, 1}

    def test_noise_has_unit_level(self):
        noise = make_mixer(config=MixConfig(room_tone_fraction=0.0))[0].noise
        level = noise.square().mean(1).sqrt()
        torch.testing.assert_close(level, torch.ones_like(level), rtol=1e-3, atol=0)

    def test_room_tone_is_faint_and_surrounds_the_sound(self):
        drawn = [
            add_room_tone(
                np.ones(3 * RATE, np.float32),
                Boundaries(RATE, RATE + 4000),
                MixConfig(),
                np.random.default_rng(seed),
            )
            for seed in range(300)
        ]
        short = [noise for noise in drawn if noise.min() == 0]
        assert len(short) / len(drawn) == pytest.approx(MixConfig.room_tone_fraction, abs=0.1)
        for noise in short:
            audible = noise.nonzero()[0]
            assert 0 <= audible[0] <= RATE
            assert RATE + 4000 <= audible[-1] + 1 < 2 * RATE + 4000
            assert len(audible) == audible[-1] + 1 - audible[0]
            assert (
                MixConfig.room_tone_db[0]
                <= -20 * np.log10(noise[audible[0]])
                <= MixConfig.room_tone_db[1]
            )

    def test_without_recorded_noise(self):
        mixer = make_mixer()
        assert (
            ExampleMixer(
                mixer.names,
                mixer.words,
                mixer.negatives,
                None,
                clip_seconds=1.0,
                earliest_end_seconds=0.5,
                batch=8,
            )[0]
            .noise.isfinite()
            .all()
        )

    def test_noise_is_recorded_or_babble_or_coloured(self):
        """Each kind often enough to be learned from. Its pitch identifies it: babble is made
        of the other speech."""
        pitches = {"recorded": 6000.0, "babble": 2000.0}
        datasets = {kind: make_dataset(tone(1.0, pitch)) for kind, pitch in pitches.items()}
        word, others = (
            aligned_word("word", make_dataset(tone(0.3))),
            NegativeSource(datasets["babble"], 1.0),
        )
        seconds = {"clip_seconds": 1.2, "earliest_end_seconds": 0.5}
        noise = ExampleMixer(
            ["word"], [word], [others], datasets["recorded"], batch=400, **seconds
        )[0].noise
        power = torch.fft.rfft(noise).abs().square()
        hertz = torch.fft.rfftfreq(noise.shape[1], 1 / RATE)
        near = {kind: ((hertz / pitch).log2().abs() < 0.5) for kind, pitch in pitches.items()}
        shares = {kind: power[:, band].sum(1) / power.sum(1) for kind, band in near.items()}
        drawn = {kind: (share > 0.9).float().mean().item() for kind, share in shares.items()}
        drawn["coloured"] = 1 - sum(drawn.values())
        assert all(0.1 < fraction < 0.6 for fraction in drawn.values()), drawn
