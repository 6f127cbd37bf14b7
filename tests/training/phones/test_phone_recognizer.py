"""Phone recognition: its augmentation, its loss, its error rate, and a small network that learns
it."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import SMALL
from shared_training import EpochLog
from sounds import RATE
from tone_utterances import make_source, make_utterances

from kws.errors import DataError
from kws.training.augment.rooms import simulate_room_responses
from kws.training.model import checkpoint
from kws.training.model.phone_set import BLANK, PHONES
from kws.training.model.torch_engine import load_network
from kws.training.phones import objective
from kws.training.phones.objective import (
    PhoneObjective,
    PhoneTrainConfig,
)
from kws.training.phones.utterances import UtteranceBatch

CONFIG = objective.make_phone_recognizer_config(
    **{name: SMALL[name] for name in ("mels", "channels", "kernels")}
)
SHORT = PhoneTrainConfig(
    epochs=2,
    steps_per_epoch=2,
    batch=8,
    learning_rate=2e-2,
    ema_decay=0.9,
    snr_db=(20.0, 40.0),
    mel_masks=0,
    time_masks=0,
)
ENOUGH = replace(SHORT, epochs=1, steps_per_epoch=150)  # to recognise tones


def test_rooms_and_filters_are_drawn_independently():
    """A click in this room has an echo; through a filter its spectrum is not flat."""
    room = torch.zeros(1, RATE // 2)
    room[0, 0], room[0, 4000] = 1.0, 0.5
    clicks = torch.zeros(128, 2 * RATE)
    clicks[:, RATE] = 1.0
    no_phones = torch.zeros(128, 1, dtype=torch.long)
    batch = UtteranceBatch(clicks, no_phones, no_phones[:, 0], torch.zeros_like(clicks))
    phone_objective = PhoneObjective(CONFIG, room, PhoneTrainConfig(snr_db=(60.0, 60.0)))
    audio = phone_objective.prepare(batch, torch.Generator().manual_seed(0)).audio
    direct, echo = (audio[:, at - 1500 : at + 1500] for at in (RATE, RATE + 4000))
    has_echo = echo.abs().amax(1) > 0.2 * direct.abs().amax(1)
    spectrum = torch.fft.rfft(direct).abs()
    low, high = (spectrum[:, round(hz * 3000 / RATE)] for hz in (300, 1500))
    is_filtered = (low / high).log().abs() > 0.02
    assert 0.3 < has_echo.float().mean() < 0.7
    assert 0.35 < is_filtered.float().mean() < 0.75
    for echoes, filtered in itertools.product((True, False), repeat=2):
        assert ((has_echo == echoes) & (is_filtered == filtered)).sum() > 10


def alignments(frames: int, phones: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All paths of so many frames that spell the phones."""
    for path in itertools.product(range(3), repeat=frames):
        if tuple(phone for phone, _ in itertools.groupby(path) if phone) == phones:
            yield path


def test_the_loss_sums_over_all_alignments():
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    log_p = logits[0].log_softmax(0)
    paths = [
        sum(log_p[phone, frame] for frame, phone in enumerate(path))
        for path in alignments(4, (1, 2))
    ]
    loss = objective.phone_ctc_loss(logits, torch.tensor([[1, 2]]), torch.tensor([2]))
    torch.testing.assert_close(loss, -torch.stack(paths).logsumexp(0) / 2)  # per phone


LOGITS = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1))
TRANSCRIPTS = torch.tensor([[1, 2, 2], [3, 1, 0]])
LENGTHS = torch.tensor([3, 2])


def test_a_clip_too_short_for_its_phones_is_not_learned():
    logits = LOGITS[:, :, :2].clone().requires_grad_()
    objective.phone_ctc_loss(logits, TRANSCRIPTS, LENGTHS).backward()
    assert not logits.grad[0].any()
    assert logits.grad[1].any()


def test_repeated_frames_are_one_phone():
    best_phones = torch.tensor([0, 1, 1, 0, 1, 2, 2, 0])
    recognized = objective.decode_greedily(torch.nn.functional.one_hot(best_phones, 3).T)
    assert recognized.phones == PHONES[0] * 2 + PHONES[1]
    assert recognized.frames.tolist() == [1, 4, 5]


@cache
def edits(a: str, b: str) -> int:
    """The definition of the distance."""
    if not a or not b:
        return len(a) + len(b)
    return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]))


@pytest.mark.parametrize(
    ("a", "b"), [("", "abc"), ("abc", ""), ("kitten", "sitting"), ("abcd", "badc"), ("aab", "aab")]
)
def test_edit_distance(a, b):
    assert objective.edit_distance(a, b) == edits(a, b)


def train(path: Path, train_config: PhoneTrainConfig = SHORT, **options: Any) -> float:
    """The phone error rate after the last epoch."""
    progress = options.setdefault("progress", EpochLog())
    rooms = torch.from_numpy(simulate_room_responses(2, np.random.default_rng(0)))
    objective.train(
        make_utterances(seed=9), make_source(), rooms, train_config, CONFIG, path, **options
    )
    return progress.epochs[-1]["phone_error_rate"]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recognizer") / "a.pt"
    train(path, ENOUGH)
    return path


def test_a_network_learns_to_recognise_phones(recognizer):
    """An untrained network writes nothing: its error rate is 1."""
    assert checkpoint.load(recognizer)["history"][-1]["phone_error_rate"] < 0.7


def test_a_training_that_starts_from_a_recognizer_is_ahead(recognizer, tmp_path):
    few_steps = replace(SHORT, epochs=1, steps_per_epoch=4)
    ahead = train(tmp_path / "a.pt", few_steps, init_from=load_network(recognizer))
    assert ahead < train(tmp_path / "b.pt", few_steps)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    train(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts.pt", progress=EpochLog(stop_after=1))
    train(tmp_path / "parts.pt", resume=True)
    whole, parts = (
        checkpoint.load(tmp_path / name)["ema_network"] for name in ("whole.pt", "parts.pt")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert load_network(tmp_path / "whole.pt").config.words == (BLANK, *PHONES)


def test_a_checkpoint_without_optimiser_is_not_resumed(tmp_path):
    path = tmp_path / "a.pt"
    train(path)
    saved = checkpoint.load(path)
    del saved["network"], saved["optimiser"]
    checkpoint.save(saved, path)
    with pytest.raises(DataError, match="finished training"):
        train(path, resume=True)
