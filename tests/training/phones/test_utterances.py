"""Batches of utterances with their phones."""

import itertools
from dataclasses import replace

import pytest
import torch
from sounds import RATE, make_dataset, tone
from tone_utterances import make_utterances

from kws.training.data.dataset import pack_clips
from kws.training.model.phone_set import BLANK, PHONES, to_phones
from kws.training.phones.utterances import UtteranceDataset, Utterances


@pytest.mark.parametrize(
    ("transcription", "phones"),
    [("wɔTəɹ", "wɔɾəɹ"), ("hæˈpi", "hæpi"), ("ʔ1 ?", ""), ("", "")],
    ids=["flap", "stress", "no phones", "empty"],
)
def test_transcriptions_in_the_phone_set(transcription, phones):
    assert to_phones(transcription) == phones


def test_the_phones_are_distinct():
    assert len(set(PHONES)) == len(PHONES)
    assert BLANK not in PHONES


def test_a_batch_is_a_function_of_seed_and_index():
    first, again, other = make_utterances()[3], make_utterances()[3], make_utterances(seed=1)[3]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.audio, other.audio)


def test_the_phones_are_those_of_the_audio():
    batch = make_utterances()[0]
    for audio, phones, length in zip(batch.audio, batch.phones, batch.lengths, strict=True):
        expected = [PHONES[phone - 1] for phone in phones[:length]]
        assert merge_repetitions(recognize_tones(audio)) == merge_repetitions(expected)


def make_lengths(*seconds: float) -> Utterances:
    """Tones of these lengths, the first of "b", the second of "d", and so on."""
    dataset = make_dataset(*(tone(each) for each in seconds))
    return Utterances(dataset, tuple(PHONES[: len(seconds)]), 1.0)


class TestLengths:
    def test_recordings_stand_among_others_of_their_length(self):
        """None is cut off, and one that fits into no example is not used."""
        batches = UtteranceDataset(
            [make_lengths(1.0, 3.9, 7.0, 15.9, 17.0)], pack_clips([], []), batch_seconds=32, seed=0
        )
        longest_phone_by_shape = {(8, 4): 2, (4, 8): 3, (2, 16): 4}
        for index in range(30):
            batch = batches[index]
            count, seconds = len(batch.audio), batch.audio.shape[1] // RATE
            assert batch.phones.max() <= longest_phone_by_shape[count, seconds]
            if seconds > 4:
                longest = longest_phone_by_shape[count, seconds]
                assert (batch.phones == longest).any(1).all()

    def test_sources_have_their_shares_of_the_audio(self):
        """The words are short; nearly all sentences fill an example by themselves."""
        words, sentences = make_lengths(0.5), make_lengths(0.5, 3.9)
        sentences = replace(
            sentences,
            dataset=sentences.dataset.select(lambda clip: clip.speaker == "s1"),
            phonemes=("d",),
            weight=3.0,
        )
        batches = UtteranceDataset(
            [words, sentences], pack_clips([], []), batch_seconds=400, seed=0
        )
        batch = batches[0]
        sentence_share = (batch.phones == 2).sum() / len(batch.audio)
        assert 0.6 < sentence_share < 0.9

    def test_a_recording_that_fills_its_example_is_not_slowed_down(self):
        """It would be cut off: its end is quiet, and its sound is not."""
        batches = UtteranceDataset(
            [make_lengths(4.0)], pack_clips([], []), batch_seconds=64, seed=0
        )
        for audio in batches[0].audio:
            assert len(audio.nonzero()) <= 4.3 * RATE


def recognize_tones(audio: torch.Tensor) -> list[str]:
    """The phone of each frame with a tone; the tones lie at 500 ± 18 % and 2000 ± 18 % Hz."""
    window = torch.hann_window(400)
    spectra = torch.stft(audio, 400, 160, window=window, return_complex=True).abs()
    loudest_hz = 40 * spectra.argmax(0)[spectra.amax(0) > 1]
    return ["b" if hz < 1000 else "d" for hz in loudest_hz if 320 < hz < 680 or 1520 < hz < 2480]


def merge_repetitions(phones: list[str]) -> list[str]:
    return [phone for phone, _ in itertools.groupby(phones)]
