"""Batches of clips to classify, and a tiny network that learns to classify tones."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_training import EpochLog
from sounds import RATE, make_dataset, quiet, tone

from kws import Spotter
from kws.errors import DataError
from kws.runtime.engine import Engine
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD
from kws.training.data.noise import make_coloured_noise
from kws.training.fit.state import TrainState
from kws.training.model import checkpoint, pretrained
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.phone_set import BLANK, PHONES
from kws.training.model.pretrained import init_from_pretrained
from kws.training.model.torch_engine import load_network
from kws.training.speech_commands import accuracy, train
from kws.training.speech_commands.batches import (
    NOISE_RMS,
    ClassificationBatch,
    ClassificationBatches,
    augment_batch,
    center_clips,
    normalize_levels,
    place_clips,
)
from kws.training.speech_commands.config import ClassifierTrainConfig
from kws.training.speech_commands.dataset import SILENCE, UNKNOWN, LabeledClips
from kws.training.speech_commands.predict import load_lexicon, predict, predict_streaming
from kws.training.speech_commands.protocols import Protocol
from kws.training.speech_commands.train import add_pronunciations
from kws.training.speech_commands.unknowns import SpeechClips, SyntheticUnknowns, cut_speech_clips

CLASSES = ("low", "high", UNKNOWN, SILENCE)
PITCHES = {"low": 500, "high": 2000, UNKNOWN: 1000}
PLAIN = ClassifierTrainConfig(
    speed_range=(1.0, 1.0), shift_seconds=0.0, noisy_fraction=0.0, room_fraction=0.0,
    gain_fraction=0.0,
    mel_masks=0, time_masks=0, mixup=0.0, label_smoothing=0.0,
    reversed_fraction=0.0, cross_word_splice_fraction=0.0, shuffled_fraction=0.0,
    other_speech_fraction=0.0, snippet_fraction=0.0, isolated_fraction=0.0, unknown_weight=1.0,
    out_of_corpus_fraction=0.0, out_of_corpus_unknown_fraction=0.0, same_word_splice_fraction=0.0,
    match_room_tone_fraction=0.0, random_silence_fraction=0.0, equalized_fraction=0.0, batch=16,
)  # fmt: skip
TINY = NetworkConfig(CLASSES, mels=16, channels=16, kernels=(5, 7), pool_frames=8)
SAMPLES = 24_000
NO_SPEECH = SpeechClips()


def make_clips(each: int, seed: int = 0) -> LabeledClips:
    rng = np.random.default_rng(seed)
    waves, labels = [], []
    for label, name in enumerate(CLASSES):
        for _ in range(each):
            at, length = rng.uniform(0.1, 0.5), rng.uniform(0.25, 0.4)
            sound = tone(
                length, PITCHES.get(name, 0) * rng.uniform(0.95, 1.05), rng.uniform(0.1, 0.5)
            )
            wave = np.concatenate([quiet(at), sound, quiet(1)])[:RATE] + 1e-3 * rng.standard_normal(
                RATE
            )
            waves.append(np.round(wave * 32767).astype(np.int16))
            labels.append(label)
    words = tuple("" if CLASSES[label] == SILENCE else CLASSES[label] for label in labels)
    return LabeledClips(
        np.stack(waves), np.array(labels), tuple(f"s{i}" for i in range(len(labels))), words
    )


def noise():
    return make_dataset(make_coloured_noise(3 * RATE, 1.0, np.random.default_rng(1)) / 20)


def batches(
    train_config: ClassifierTrainConfig = PLAIN, speech: SpeechClips = NO_SPEECH
) -> ClassificationBatches:
    return ClassificationBatches(make_clips(20), CLASSES, noise(), speech, SAMPLES, train_config)


class TestBatches:
    def test_same_seed_and_step_give_the_same_batch(self):
        for first, second in zip(batches()[3], batches()[3], strict=True):
            assert torch.equal(first, second)
        assert not torch.equal(batches()[3].clips, batches()[4].clips)
        assert not torch.equal(batches()[3].clips, batches(replace(PLAIN, seed=1))[3].clips)

    def test_drawing_does_not_change_the_clips(self):
        drawn = batches(replace(PLAIN, reversed_fraction=1.0))
        before = drawn.clips.samples.copy()
        drawn[0]
        assert np.array_equal(drawn.clips.samples, before)

    @pytest.mark.parametrize("balanced", [True, False])
    def test_balance(self, balanced):
        part = make_clips(20)
        # One clip of silence
        rare = LabeledClips(
            part.samples[:61], part.labels[:61], part.speakers[:61], part.words[:61]
        )
        drawn = ClassificationBatches(
            rare,
            CLASSES,
            noise(),
            NO_SPEECH,
            SAMPLES,
            replace(PLAIN, batch=1000, balanced=balanced),
        )[0]
        assert (drawn.label == 3).float().mean().item() == pytest.approx(
            0.25 if balanced else 1 / 61, abs=0.04 if balanced else 0.015
        )

    def test_every_unknown_word_is_drawn_as_often(self):
        part = make_clips(20)
        # One clip of the unknown.
        words = tuple("rare" if row == 40 else word for row, word in enumerate(part.words))
        drawn = ClassificationBatches(
            replace(part, words=words),
            CLASSES,
            noise(),
            NO_SPEECH,
            SAMPLES,
            replace(PLAIN, batch=2000),
        )[0]
        rare = (drawn.clips == torch.from_numpy(part.samples[40])).all(1)
        assert rare[drawn.label == 2].float().mean().item() == pytest.approx(0.5, abs=0.07)

    @pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
    def test_weight_of_unknown_words(self, weight):
        drawn = batches(replace(PLAIN, batch=2000, unknown_weight=weight))[0]
        assert (drawn.label == 2).float().mean().item() == pytest.approx(
            weight / (weight + 3), abs=0.04
        )

    def test_fractions_of_the_kinds_of_unknown_words(self):
        speech = SpeechClips(np.full((3, RATE), 77, np.int16), np.full((3, RATE), 55, np.int16))
        train_config = replace(
            PLAIN,
            reversed_fraction=0.3,
            other_speech_fraction=0.4,
            isolated_fraction=0.2,
            batch=2000,
        )
        drawn = batches(train_config, speech)[0]
        unknown = drawn.clips[drawn.label == 2].numpy()
        words = {wave[::-1].tobytes() for wave in make_clips(20).samples[:40]}
        assert np.mean([wave.tobytes() in words for wave in unknown]) == pytest.approx(
            0.3, abs=0.07
        )
        for sample, share in ((77, 0.4), (55, 0.2)):
            assert (unknown == sample).all(1).mean() == pytest.approx(share, abs=0.07)
            assert not (drawn.clips[drawn.label != 2] == sample).all(1).any()

    def test_a_single_word_is_not_spliced_with_itself(self):
        part, classes = make_clips(20), ("low", UNKNOWN, SILENCE)
        known = part.select(part.labels != 1)
        isolated = replace(known, labels=np.array([0, -1, 1, 2])[known.labels])
        train_config = replace(PLAIN, cross_word_splice_fraction=1.0, batch=200)
        drawn = ClassificationBatches(isolated, classes, noise(), NO_SPEECH, SAMPLES, train_config)[
            0
        ]
        theirs = {wave.tobytes() for wave in isolated.samples[isolated.labels == 1]}
        assert {wave.tobytes() for wave in drawn.clips[drawn.label == 1].numpy()} <= theirs

    def test_out_of_corpus_clips_of_a_word_have_its_label(self):
        speech = SpeechClips(
            out_of_corpus=np.stack([np.full(RATE, 33), np.full(RATE, 44)]).astype(np.int16),
            words=("low", "high"),
        )
        drawn = batches(replace(PLAIN, out_of_corpus_fraction=0.4, batch=2000), speech)[0]
        for label, sample in ((0, 33), (1, 44)):
            there = (drawn.clips == sample).all(1)
            assert there[drawn.label == label].float().mean().item() == pytest.approx(0.4, abs=0.07)
            assert not there[drawn.label != label].any()

    def test_random_silence_is_noise_at_any_level(self):
        drawn = batches(replace(PLAIN, random_silence_fraction=1.0, batch=400))[0]
        silent = drawn.clips[drawn.label == 3].float()
        levels = 20 * silent.square().mean(1).sqrt().clamp_min(1).log10()
        assert levels.max() - levels.min() > 30
        own = {wave.tobytes() for wave in make_clips(20).samples}
        assert not any(wave.tobytes() in own for wave in drawn.clips[drawn.label == 3].numpy())

    def test_noises_have_the_same_level(self):
        noises = normalize_levels(make_dataset(tone(1.0, 500, 0.5), tone(1.0, 700, 0.001))).astype(
            float
        )
        assert noises[:RATE].std() == pytest.approx(NOISE_RMS, rel=0.01)
        assert noises[RATE:].std() == pytest.approx(NOISE_RMS, rel=0.05)


class TestSyntheticUnknowns:
    @pytest.mark.parametrize("label", [0, 1])
    def test_a_splice_of_one_word_is_that_word_all_along(self, label):
        part = make_clips(10)
        unknowns, rng = SyntheticUnknowns(part, np.arange(20), NO_SPEECH), np.random.default_rng(0)
        for _ in range(10):
            wave = unknowns.splice_same_word(label, rng).astype(float)
            loud = np.flatnonzero(np.abs(wave) > 1000)
            for half in (wave[loud[0] : loud[0] + 1000], wave[loud[-1] - 1000 : loud[-1]]):
                assert np.abs(np.fft.rfft(half)).argmax() * RATE / 1000 == pytest.approx(
                    (500, 2000)[label], rel=0.07
                )

    def test_a_splice_of_two_words_begins_as_one_and_ends_as_the_other(self):
        part = make_clips(10)
        unknowns, rng = SyntheticUnknowns(part, np.arange(20), NO_SPEECH), np.random.default_rng(0)
        for _ in range(10):
            wave = unknowns.splice_two_words(rng).astype(float)
            loud = np.flatnonzero(np.abs(wave) > 1000)
            halves = wave[loud[0] : loud[0] + 1000], wave[loud[-1] - 1000 : loud[-1]]
            pitches = [np.abs(np.fft.rfft(half)).argmax() * RATE / 1000 for half in halves]
            assert min(pitches) == pytest.approx(500, abs=60)
            assert max(pitches) == pytest.approx(2000, abs=150)

    def test_room_tone_and_level_are_those_of_a_known_word(self):
        part, rng = make_clips(10), np.random.default_rng(0)
        unknowns = SyntheticUnknowns(part, np.arange(20), NO_SPEECH)
        clip = np.zeros(RATE, np.int16)
        clip[6000:10_000] = np.round(tone(0.25, 3000, 0.01) * 32767)
        for _ in range(10):
            wave = unknowns.match_room_tone(clip, rng).astype(float)
            room = np.concatenate([wave[:6000], wave[10_000:]])
            assert 0.8e-3 < room.std() / 32767 < 1.2e-3  # that of every clip
            # As loud as one of its words.
            assert 0.1 / 2**0.5 * 0.8 < wave[6000:10_000].std() / 32767 < 0.5 / 2**0.5 * 1.1

    @pytest.mark.parametrize(
        "clip",
        [np.zeros(RATE), np.eye(1, RATE, 99)[0] * 9000, np.full(RATE, -32768)],
        ids=["silent", "click", "loudest"],
    )
    def test_room_tone_can_be_matched_for_any_clip(self, clip):
        wave = SyntheticUnknowns(make_clips(10), np.arange(20), NO_SPEECH).match_room_tone(
            clip.astype(np.int16), np.random.default_rng(0)
        )
        assert (wave.shape, wave.dtype) == ((RATE,), np.int16)
        assert 10 < np.abs(wave.astype(float)).mean() < 25_000

    def test_batches_can_be_pickled_for_workers(self):
        sent = pickle.loads(pickle.dumps(batches(ClassifierTrainConfig(batch=16))))
        assert all(
            torch.equal(*pair)
            for pair in zip(sent[3], batches(ClassifierTrainConfig(batch=16))[3], strict=True)
        )

    def test_a_shuffled_word_consists_of_segments_of_known_words(self):
        unknowns, rng, pitches = (
            SyntheticUnknowns(make_clips(10), np.arange(20), NO_SPEECH),
            np.random.default_rng(0),
            [],
        )
        for _ in range(50):
            wave = unknowns.shuffle_segments(rng).astype(float)
            loud = np.flatnonzero(np.abs(wave) > 300)
            pitches += [
                np.abs(np.fft.rfft(wave[at : at + 1000])).argmax() * RATE / 1000
                for at in (loud[0], loud[-1] - 1000)
            ]
        assert all(min(abs(pitch - 500), abs(pitch - 2000)) < 150 for pitch in pitches)
        assert 0.3 < np.mean(np.array(pitches) < 1000) < 0.7

    def test_a_reversed_word_is_backwards(self):
        part = make_clips(3)
        clip = SyntheticUnknowns(part, np.array([4]), NO_SPEECH).reverse_word(
            np.random.default_rng(0)
        )
        assert np.array_equal(clip, part.samples[4, ::-1])


class TestPlacement:
    clips = torch.from_numpy(
        np.stack([np.round(tone(1.0, pitch) * 32767).astype(np.int16) for pitch in (440, 880)])
    )

    def test_a_clip_begins_at_its_start(self):
        audio = place_clips(self.clips, torch.tensor([100.0, 3000.0]), torch.ones(2), SAMPLES)
        for row, start in zip(audio, (100, 3000), strict=True):
            assert not row[:start].any()
            assert not row[start + RATE :].any()
        assert torch.equal(audio[1, 3000 : 3000 + RATE], self.clips[1].float() / 32768)

    def test_a_later_start_is_a_shift(self):
        first, second = (
            place_clips(self.clips, torch.full((2,), start), torch.ones(2), SAMPLES)
            for start in (1000.0, 1320.0)
        )
        assert torch.equal(first[:, : SAMPLES - 320], second[:, 320:])

    def test_a_clip_that_begins_before_the_audio_is_cut(self):
        audio = place_clips(self.clips, torch.full((2,), -500.0), torch.ones(2), SAMPLES)
        assert torch.equal(audio[:, : RATE - 500], self.clips[:, 500:].float() / 32768)

    @pytest.mark.parametrize("rate", [0.8, 1.25])
    def test_the_rate_changes_pitch_and_length(self, rate):
        audio = place_clips(self.clips, torch.zeros(2), torch.full((2,), rate), SAMPLES)
        spectrum = torch.fft.rfft(audio[:, :12_000]).abs()
        pitch = spectrum.argmax(1) * RATE / 12_000
        torch.testing.assert_close(pitch, torch.tensor([440.0, 880.0]) * rate, rtol=0.01, atol=0)
        assert audio[:, round(RATE / rate) + 2 :].abs().max() == 0

    def test_centred_clips_are_in_the_middle(self):
        loud = center_clips(self.clips, SAMPLES).abs() > 0
        first, last = loud.int().argmax(1), SAMPLES - 1 - loud.flip(1).int().argmax(1)
        assert ((first + last - SAMPLES).abs() <= 4).all()


class TestPhones:
    """The phones of clips, for a network that recognises them, and the silence before a clip that
    such a network needs."""

    PHONE_IDS = {"low": [1, 2, 3], "high": [4]}  # noqa: RUF012

    def drawn(self, train_config: ClassifierTrainConfig) -> ClassificationBatch:
        return ClassificationBatches(
            make_clips(20),
            CLASSES,
            noise(),
            NO_SPEECH,
            SAMPLES,
            train_config,
            phone_ids=self.PHONE_IDS,
        )[0]

    def test_words_have_phones_and_silence_has_none(self):
        batch = self.drawn(replace(PLAIN, batch=200))
        drawn_phones = [
            tuple(row[:count].tolist()) if count >= 0 else None
            for row, count in zip(batch.phones, batch.lengths, strict=True)
        ]
        assert drawn_phones == [
            {0: (1, 2, 3), 1: (4,), 2: None, 3: ()}[label] for label in batch.label.tolist()
        ]

    @pytest.mark.parametrize(
        "kind", ["reversed_fraction", "cross_word_splice_fraction", "shuffled_fraction"]
    )
    def test_synthetic_unknown_words_have_no_phones(self, kind):
        phone_ids = {**self.PHONE_IDS, UNKNOWN: [5]}
        for fraction, expected in ((0.0, 1), (1.0, -1)):
            train_config = replace(PLAIN, batch=100, **{kind: fraction})
            batch = ClassificationBatches(
                make_clips(20),
                CLASSES,
                noise(),
                NO_SPEECH,
                SAMPLES,
                train_config,
                phone_ids=phone_ids,
            )[0]
            assert set(batch.lengths[batch.label == 2].tolist()) == {expected}

    def test_a_splice_of_one_word_has_its_phones(self):
        batch = self.drawn(replace(PLAIN, batch=100, same_word_splice_fraction=1.0))
        assert set(batch.lengths[batch.label == 0].tolist()) == {3}

    def test_the_lead_comes_before_all_else(self):
        lead, generator = 8000, torch.Generator()
        plain, later = (
            ClassificationBatches(
                make_clips(20), CLASSES, noise(), NO_SPEECH, SAMPLES + some, PLAIN, lead=some
            )[0]
            for some in (0, lead)
        )
        without, with_it = (
            augment_batch(batch, torch.zeros(1, 8000), samples, PLAIN, generator.manual_seed(0))
            for batch, samples in ((plain, SAMPLES), (later, SAMPLES + lead))
        )
        assert not with_it[:, :lead].any()
        assert torch.equal(with_it[:, lead:], without)
        assert torch.equal(center_clips(plain.clips, SAMPLES + lead, lead), with_it)


class TestAugmentation:
    def test_without_ingredients_nothing_changes(self):
        batch = batches()[0]
        audio = augment_batch(
            batch, torch.zeros(1, 8000), SAMPLES, PLAIN, torch.Generator().manual_seed(0)
        )
        assert torch.equal(audio, center_clips(batch.clips, SAMPLES))

    def test_default_fractions_of_rooms_microphones_and_noise(self):
        """Measured in the audio. Here a room has one echo."""
        burst = torch.randn(400, RATE // 4, generator=torch.Generator().manual_seed(0))
        clips = torch.nn.functional.pad((3000 * burst).short(), (0, RATE * 3 // 4))
        room = torch.zeros(1, RATE // 2)
        room[0, 0], room[0, RATE // 3] = 1.0, 0.5
        hum = torch.ones(400, RATE, dtype=torch.int16)
        batch = batches()[0]._replace(clips=clips, start=torch.zeros(400), rate=torch.ones(400))
        chance, train_config = torch.Generator(), ClassifierTrainConfig()
        both = [batch._replace(noise=noise) for noise in (0 * hum, 1000 * hum)]
        clean, noisy = (
            augment_batch(each, room, RATE, train_config, chance.manual_seed(0)) for each in both
        )
        sound, echo, rest = slice(RATE // 4), slice(RATE // 3, RATE // 2), slice(-RATE // 4, None)
        level = clean[:, sound].square().mean(1)
        in_room = clean[:, echo].square().mean(1) > 0.01 * level
        in_noise = noisy[:, rest].square().mean(1) > 3e-4 * level
        low, high = slice(100, 150), slice(400, 600)  # of 4 Hz
        power = [torch.fft.rfft(audio[:, sound]).abs().square() for audio in (clips.float(), clean)]
        tilt_db = [10 * (each[:, high].mean(1) / each[:, low].mean(1)).log10() for each in power]
        filtered = (tilt_db[1] - tilt_db[0]).abs() > 1
        assert 0.05 < in_room.float().mean() < 0.3
        assert 0.2 < in_noise.float().mean() < 0.6
        assert 0.25 < filtered.float().mean() < 0.65

    def test_clips_of_speech_leave_out_pauses(self):
        clips = cut_speech_clips(
            [make_dataset(np.concatenate([tone(2.0), quiet(3.0), tone(1.0)]))]
        ).continuous
        assert clips.shape[1] == RATE
        assert (np.abs(clips).max(1) > 10_000).all()
        assert 4 <= len(clips) <= 7

    def test_short_recordings_are_in_the_middle_of_silence(self):
        clips = cut_speech_clips([make_dataset(tone(0.5))])
        (clip,) = clips.isolated
        assert not len(clips.continuous)
        sound = np.flatnonzero(clip)
        assert abs(sound[0] + sound[-1] - RATE) < 20
        assert sound[-1] - sound[0] == pytest.approx(RATE / 2, abs=20)

    def test_clips_in_folders_named_after_a_word_are_out_of_corpus(self):
        dataset = make_dataset(tone(0.5), tone(0.25), tone(2.0))
        dataset = replace(
            dataset,
            clips=tuple(
                replace(clip, label=label)
                for clip, label in zip(dataset.clips, ("high", "hay", "low"), strict=True)
            ),
        )
        found = cut_speech_clips([dataset], CLASSES)
        assert found.words == ("high", "low")
        assert (len(found.continuous), len(found.isolated)) == (0, 1)
        assert [np.ptp(np.flatnonzero(wave)) for wave in found.out_of_corpus] == pytest.approx(
            [RATE / 2, RATE], abs=20
        )

    def test_a_snippet_is_as_long_as_a_word_in_silence(self):
        unknowns, rng = (
            SyntheticUnknowns(
                make_clips(10),
                np.arange(20),
                SpeechClips(np.full((3, RATE), 9000, np.int16)),
            ),
            np.random.default_rng(0),
        )
        snippets = [np.flatnonzero(unknowns.cut_snippet(rng)) for _ in range(200)]
        lengths = [(sound[-1] - sound[0]) / RATE for sound in snippets]
        assert 0.24 < min(lengths) < 0.3
        assert 0.75 < max(lengths) < 0.81
        assert all(np.diff(sound).max() == 1 for sound in snippets)
        assert len({sound[0] for sound in snippets}) > 150

    def test_no_speech_gives_no_clips(self):
        clips = cut_speech_clips([])
        assert not len(clips.continuous) + len(clips.isolated) + len(clips.out_of_corpus)


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    unseen = make_clips(10, seed=5)
    keep = unseen.labels == 2
    unseen = LabeledClips(
        unseen.samples[keep], unseen.labels[keep], unseen.speakers[:10], unseen.words[:10]
    )
    return Protocol(
        "tones",
        CLASSES,
        make_clips(40),
        make_clips(12, 1),
        make_clips(15, 2),
        {"unseen": unseen},
        noise(),
        "tones of the test",
    )


@pytest.fixture(scope="module")
def trained(protocol, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "tones.kws"
    train_config = replace(
        PLAIN,
        epochs=6,
        steps_per_epoch=16,
        learning_rate=1e-2,
        ema_decay=0.8,
        noisy_fraction=0.3,
        snr_db=(10.0, 30.0),
    )
    train.train(protocol, TINY, train_config, path, device=torch.device("cpu"), workers=0)
    return path


class TestTraining:
    def test_it_learns(self, trained, protocol):
        report = accuracy.evaluate_classifier(Engine.load(str(trained)), protocol)
        assert report["sets"]["test"]["accuracy"] > 0.9
        low, high = report["sets"]["test"]["accuracy_interval"]
        assert low < report["sets"]["test"]["accuracy"] <= high
        assert report["sets"]["unseen"]["unknown_accepted"] < 0.2
        assert "60 clips" in accuracy.format_report(report)

    def test_offline_exported_and_streamed_predict_the_same(self, trained, protocol):
        network, engine = load_network(trained.with_suffix(".pt")), Engine.load(str(trained))
        offline, whole = (
            predict(network, protocol.test),
            predict_streaming(engine, protocol.test),
        )
        assert np.array_equal(
            whole,
            predict_streaming(engine, protocol.test, 3 * engine.info.frame_samples),
        )
        assert np.array_equal(offline, whole)
        clip = protocol.test.samples[:1]
        (audio,) = center_clips(torch.from_numpy(clip), engine.info.context_samples).numpy()
        audio = np.pad(audio, (0, -len(audio) % engine.info.frame_samples))
        stream = engine.open_stream()
        for at in range(0, len(audio), 1000):
            step = stream.step(audio[at : at + 1000])
        assert step.pooled[-1].argmax() == offline[0]

    def test_it_detects_words_in_streams_at_its_own_thresholds(self, trained, protocol):
        spotter = Spotter.load(trained)
        for word in "low", "high":
            part = protocol.validation.select(np.array(protocol.validation.words) == word)
            waves = part.samples.astype(np.float32) / 32768
            found = [
                word in [event.word for event in spotter.detect(np.pad(wave, RATE))]
                for wave in waves
            ]
            assert np.mean(found) > 0.7

    def test_held_out_speech_measures_false_alarms(self, trained, protocol, tmp_path):
        # "low", which its folder does not say
        speech = make_dataset(*(make_clips(1, seed).samples[0] / 32768 for seed in range(400)))
        path, train_config = (
            tmp_path / "a.kws",
            replace(PLAIN, epochs=6, steps_per_epoch=8, learning_rate=1e-2, ema_decay=0.8),
        )
        document = train.train(
            protocol,
            TINY,
            train_config,
            path,
            device=torch.device("cpu"),
            heldout_speech=[speech],
            workers=0,
        )
        table, hours = document["calibration"], 400 / 3600
        assert (table["hours"], table["clips"]) == (round(hours, 5), [12, 12, 0, 0])
        assert {row["word"] for row in table["rows"]} == {"low", "high"}
        without = Engine.load(str(trained)).info
        assert (without.document["calibration"]["hours"], document["events"]["threshold"][2:]) == (
            0,
            (UNREACHABLE_THRESHOLD, UNREACHABLE_THRESHOLD),
        )
        # Otherwise "low" would fire all the time.
        assert document["events"]["threshold"][0] > without.events.threshold[0]
        assert all(
            row["false_alarms"] <= row["false_alarms_per_hour"] * hours for row in table["rows"]
        )

    def test_a_network_with_phones_predicts_the_same_everywhere_and_uses_them(
        self, protocol, tmp_path
    ):
        path, phones = tmp_path / "phones.kws", BLANK + PHONES
        train_config, sounds = (
            replace(PLAIN, epochs=6, steps_per_epoch=8, learning_rate=1e-2, ema_decay=0.8),
            {"low": ("lO",), "high": ("hI",)},
        )
        train.train(
            protocol,
            replace(TINY, phones=phones),
            train_config,
            path,
            device=torch.device("cpu"),
            pronunciations=sounds,
            workers=0,
        )
        network, engine = load_network(path.with_suffix(".pt")), Engine.load(str(path))
        words = load_lexicon(engine.info)
        assert words.known == {"low": ("lO",), "high": ("hI",), UNKNOWN: (), SILENCE: ()}
        offline, whole = (
            predict(network, protocol.test, words),
            predict_streaming(engine, protocol.test),
        )
        assert np.array_equal(
            whole,
            predict_streaming(engine, protocol.test, 3 * engine.info.frame_samples),
        )
        assert np.array_equal(offline, whole)
        assert (whole == protocol.test.labels).mean() > 0.75
        # Exchanged pronunciations change some predictions.
        exchanged = replace(words, known={**words.known, "low": ("hI",), "high": ("lO",)})
        assert (predict(network, protocol.test, exchanged) != offline).any()

    def test_without_pronunciations_a_network_has_no_phones(self, protocol, caplog):
        config = replace(TINY, phones=BLANK + PHONES)
        assert add_pronunciations(config, protocol) == (
            config,
            {"low": ("lO",), "high": ("hI",)},
        )
        others = replace(protocol, classes=("hey_you", "r2d2", UNKNOWN, SILENCE))
        assert add_pronunciations(config, others) == (
            replace(config, phones=""),
            {},
        )
        assert caplog.messages == [
            "words are classified without their pronunciations: none of them is an English word."
        ]

    def test_resumed_run_equals_one_that_was_not_stopped(self, protocol, tmp_path):
        train_config = replace(PLAIN, epochs=3, steps_per_epoch=3, mixup=0.5, mel_masks=1)

        whole, parted = tmp_path / "whole.kws", tmp_path / "parted.kws"
        options = {"device": torch.device("cpu"), "workers": 0}
        train.train(protocol, TINY, train_config, whole, **options)
        with pytest.raises(KeyboardInterrupt):
            train.train(
                protocol,
                TINY,
                train_config,
                parted,
                progress=EpochLog(stop_after=1),
                **options,
            )
        train.train(protocol, TINY, train_config, parted, resume=True, **options)
        first, second = (
            checkpoint.load(path.with_suffix(".pt"))["ema_network"] for path in (whole, parted)
        )
        assert all(torch.equal(first[name], second[name]) for name in first)

    @pytest.mark.parametrize(
        "change",
        [{"train": make_clips(40, seed=9)}, {"noise": make_dataset(quiet(1.0))}],
        ids=["clips", "noise"],
    )
    def test_other_data_is_noticed_on_resume(self, trained, protocol, change):
        other = replace(protocol, **change)
        train_config = ClassifierTrainConfig(
            **checkpoint.load(trained.with_suffix(".pt"))["train_config"]
        )
        with pytest.raises(DataError, match="other data"):
            train.train(
                other,
                TINY,
                train_config,
                trained,
                device=torch.device("cpu"),
                resume=True,
                workers=0,
            )

    def test_model_of_other_classes(self, trained, protocol):
        other = replace(protocol, classes=("low", "middle", UNKNOWN, SILENCE))
        with pytest.raises(DataError, match="middle"):
            accuracy.evaluate_classifier(Engine.load(str(trained)), other)

    def test_a_protocol_with_held_out_words_needs_its_own_model(self, trained, protocol):
        assert "trained_protocol" not in accuracy.format_report(
            accuracy.evaluate_classifier(Engine.load(str(trained)), protocol)
        )
        assert "the model was trained by tones" in accuracy.format_report(
            accuracy.evaluate_classifier(
                Engine.load(str(trained)), replace(protocol, name="others")
            )
        )
        unseen = replace(protocol, name="tones-unseen", held_out=("hum",))
        with pytest.raises(
            DataError,
            match=(
                r"holds out words \(hum\); the model was trained by tones, "
                "where they are among the unknown"
            ),
        ):
            accuracy.evaluate_classifier(Engine.load(str(trained)), unseen)


@pytest.mark.parametrize("classes", [9, 12, 35])
@pytest.mark.parametrize("bands", [0, train.BAND_CHANNELS], ids=["all at once", "bands"])
@pytest.mark.parametrize(("size", "most"), [("small", 100_000), ("large", 400_000)])
def test_parameters_of_the_sizes(size, most, bands, classes):
    config = replace(
        train.make_classifier_config(tuple(f"word{i}" for i in range(classes)), size),
        band_channels=bands,
    )
    assert 0.7 * most < sum(p.numel() for p in ScanningCNN(config).parameters()) <= most


@pytest.mark.parametrize(
    "classes", [9, 12, train.MAX_CLASSES_WITH_PHONES, train.MAX_CLASSES_WITH_PHONES + 1]
)
@pytest.mark.parametrize(
    ("size", "most", "name"),
    [
        ("small", 100_000, pretrained.ENCODER_CONV2D_FILE),
        ("large", 400_000, pretrained.PHONE_RECOGNIZER_FILE),
    ],
)
def test_parameters_of_the_sizes_with_phones(size, most, name, classes):
    """And the phone head starts from that of the encoder."""
    path = pretrained.shipped_checkpoint(name)
    config = train.make_classifier_config(tuple(f"word{i}" for i in range(classes)), size, path)
    assert bool(config.phones) is (classes <= train.MAX_CLASSES_WITH_PHONES)
    network = init_from_pretrained(config, path, 0)
    assert sum(p.numel() for p in network.parameters()) <= most
    if config.phones:
        assert torch.equal(
            network.phone_head.weight, load_network(path).head.weight[: len(config.phones)]
        )


@pytest.mark.parametrize("bands", [0, 4, train.BAND_CHANNELS])
def test_the_stem_is_that_of_the_encoder(bands, tmp_path):
    kinds = ("one", "two", "three"), ("yes", "no")
    of_others, own = (
        replace(train.make_classifier_config(kind, "small"), band_channels=bands) for kind in kinds
    )
    TrainState(of_others, ClassifierTrainConfig(), torch.device("cpu"), "").save(
        tmp_path / "encoder.pt"
    )
    assert train.make_classifier_config(kinds[1], "small", tmp_path / "encoder.pt") == own
    begun, source = (
        init_from_pretrained(own, tmp_path / "encoder.pt", 0),
        load_network(tmp_path / "encoder.pt"),
    )
    assert torch.equal(begun.stem.conv.weight, source.stem.conv.weight)
    assert (begun.bands is None) is (bands == 0)
