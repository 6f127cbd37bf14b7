"""Batches of utterances with their phones."""

import itertools

import pytest
import torch
from tone_utterances import LEAD_SAMPLES, make_utterances

from kws.training.model.phone_set import BLANK, PHONES, to_phones


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
    batch = make_utterances(batch=32)[0]
    for audio, phones, length in zip(batch.audio, batch.phones, batch.lengths, strict=True):
        assert not audio[:LEAD_SAMPLES].any()
        expected = [PHONES[phone - 1] for phone in phones[:length]]
        assert merge_repetitions(recognize_tones(audio)) == merge_repetitions(expected)


def recognize_tones(audio: torch.Tensor) -> list[str]:
    """The phone of each frame with a tone; the tones lie at 500 ± 18 % and 2000 ± 18 % Hz."""
    window = torch.hann_window(400)
    spectra = torch.stft(audio, 400, 160, window=window, return_complex=True).abs()
    loudest_hz = 40 * spectra.argmax(0)[spectra.amax(0) > 1]
    return ["b" if hz < 1000 else "d" for hz in loudest_hz if 320 < hz < 680 or 1520 < hz < 2480]


def merge_repetitions(phones: list[str]) -> list[str]:
    return [phone for phone, _ in itertools.groupby(phones)]
