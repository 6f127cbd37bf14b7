"""Rescoring by phones: likelihoods against all paths one by one, margins, and the words of a
lexicon."""

import itertools

import numpy as np
import pytest
import torch

from kws.training.model.phone_set import PHONES
from kws.training.speech_commands import lexicon
from kws.training.speech_commands.lexicon import (
    Lexicon,
    ctc_log_likelihoods,
    encode_phones,
    look_up_pronunciations,
)


def random_log_p(frames: int, clips: int = 3, seed: int = 0) -> np.ndarray:
    """log p [clips, frames, phones]."""
    generator = torch.Generator().manual_seed(seed)
    return (
        (2 * torch.randn(clips, frames, 1 + len(PHONES), generator=generator))
        .log_softmax(-1)
        .numpy()
    )


def recognised(text: str, frames: int, sure: float = 8.0) -> np.ndarray:
    """log p [1, frames, phones] of clearly recognised phones: two frames each, blanks around."""
    logits = torch.zeros(1, frames, 1 + len(PHONES))
    logits[:, :, 0] = sure
    for first, letter in zip(range(frames - 40, frames, 3), encode_phones(text), strict=False):
        logits[:, first : first + 2, 0] = 0.0
        logits[:, first : first + 2, letter] = sure
    return logits.log_softmax(-1).numpy()


@pytest.mark.parametrize("said", ["b", "bd", "bb", "bdb"])
def test_a_likelihood_is_the_sum_over_all_paths(said):
    log_p = random_log_p(5, clips=1)[..., :3]
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))

    def collapse(path: tuple[int, ...]) -> list[int]:
        return [letter for letter, _ in itertools.groupby(path) if letter]

    paths = [
        path
        for path in itertools.product(range(3), repeat=5)
        if collapse(path) == encode_phones(said)
    ]
    expected = np.logaddexp.reduce(
        [sum(log_p[0, frame, letter] for frame, letter in enumerate(path)) for path in paths]
    )
    assert ctc_log_likelihoods(log_p, [said])[0, 0] == pytest.approx(expected, abs=1e-5)


def test_a_word_too_long_for_the_frames_is_impossible():
    assert np.isneginf(ctc_log_likelihoods(random_log_p(3), ["hæpi"])).all()


def test_the_margin_is_the_distance_to_the_best_other_word():
    words = Lexicon({"no": ("nO",), "yes": ("jɛs", "jæs"), "_unknown_": ()}, ("ɡO", "nW"))
    log_p = random_log_p(lexicon.SCORED_FRAMES)
    single = {
        said: ctc_log_likelihoods(log_p, [said])[:, 0] for said in ("nO", "jɛs", "jæs", "ɡO", "nW")
    }
    no, yes = single["nO"], np.maximum(single["jɛs"], single["jæs"])
    others = np.maximum(single["ɡO"], single["nW"])
    expected = np.stack(
        [no - np.maximum(yes, others), yes - np.maximum(no, others), np.zeros(3)], axis=1
    )
    np.testing.assert_allclose(
        words.margins(log_p), np.clip(expected, *lexicon.MARGIN_RANGE), atol=1e-4
    )


@pytest.mark.parametrize(("said", "winner"), [("nO", 0), ("jɛs", 1), ("ɡO", 2), ("kwɪk", 2)])
def test_phones_decide_between_equal_scores(said, winner):
    """The recognised word wins, and unknown where it is another word."""
    words = Lexicon({"no": ("nO",), "yes": ("jɛs",), "_unknown_": ()}, ("ɡO", "kɪk"))
    logits = words.rescore(np.zeros((1, 3)), recognised(said, 80))
    assert logits.argmax() == winner


def test_only_the_last_frames_count():
    words, log_p = (
        Lexicon({"no": ("nO",), "yes": ("jɛs",)}, ()),
        random_log_p(lexicon.SCORED_FRAMES),
    )
    before = np.concatenate([random_log_p(30, seed=1), log_p], axis=1)
    assert np.array_equal(
        words.rescore(np.zeros((3, 2)), before), words.rescore(np.zeros((3, 2)), log_p)
    )


def test_a_single_word_has_no_margin():
    assert (
        not Lexicon({"no": ("nO",), "_unknown_": ()}, ())
        .margins(random_log_p(lexicon.SCORED_FRAMES))
        .any()
    )


def test_a_homophone_of_a_class_is_no_other_word():
    sounds = {"no": ("nO",), "know": ("nO",), "go": ("ɡO",), "two": ("tu",), "too": ("tu",)}
    words = Lexicon.build(("no", "_unknown_"), sounds)
    assert (words.known, words.others) == ({"no": ("nO",), "_unknown_": ()}, ("ɡO", "tu"))
    assert Lexicon.from_dict(words.to_dict()) == words


def test_look_up_pronunciations():
    assert look_up_pronunciations(["no", "happy", "_silence_", "", "no"]) == {
        "no": ("nO",),
        "happy": ("hæpi",),
    }
