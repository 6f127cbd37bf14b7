"""Reading: what is asked for, how it is scored, and that a small network learns it."""

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from factories import SMALL
from shared_training import EpochLog
from sounds import RATE, make_dataset, quiet, tone

from kws.errors import DataError
from kws.training.augment.rooms import simulate_room_responses
from kws.training.augment.waveform import AugmentConfig
from kws.training.data.dataset import pack_clips
from kws.training.fit.config import TrainConfig
from kws.training.model import checkpoint
from kws.training.model.network import Output
from kws.training.model.phone_set import BLANK, PHONES, to_phones
from kws.training.model.torch_engine import load_network
from kws.training.phones import objective
from kws.training.phones.utterances import UtteranceBatch, UtteranceDataset, Utterances

SAMPLES, LEAD = RATE, RATE // 5  # more than the field of the network below


def make_readings(seed: int = 0, batch: int = 8) -> UtteranceDataset:
    """Low tones are read "b", high ones "d", both one after the other "bd"."""
    low, high = tone(0.15, 500), tone(0.15, 2000)
    dataset = make_dataset(low, high, np.concatenate([low, quiet(0.05), high]))
    return UtteranceDataset(
        [Utterances(dataset, ("b", "d", "bd"), 1.0)],
        pack_clips([], []),
        samples=SAMPLES,
        lead_samples=LEAD,
        batch=batch,
        seed=seed,
    )


@pytest.mark.parametrize(
    ("sounds", "expected"),
    [("wɔTəɹ", "wɔɾəɹ"), ("hæˈpi", "hæpi"), ("ʔ1 ?", ""), ("", "")],
    ids=["flap", "stress", "none", "empty"],
)
def test_letters(sounds, expected):
    assert to_phones(sounds) == expected


def test_letters_are_told_apart():
    assert len(set(PHONES)) == len(PHONES)
    assert BLANK not in PHONES


def test_a_batch_is_a_function_of_seed_and_step():
    first, again, other = make_readings()[3], make_readings()[3], make_readings(seed=1)[3]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.audio, other.audio)


def test_what_is_said_is_what_is_asked_for():
    batch = make_readings(batch=32)[0]
    for audio, phones, count in zip(batch.audio, batch.phones, batch.lengths, strict=True):
        assert not audio[:LEAD].any()
        spectra = torch.stft(
            audio, 400, 160, window=torch.hann_window(400), return_complex=True
        ).abs()
        # Of 40 Hz; tones lie at 500 ± 18 % and 2000 ± 18 %.
        bins = torch.where(spectra.amax(0) > 1, spectra.argmax(0), 0).tolist()
        tones = [
            letter
            for letter in ("b" if 8 < top < 17 else "d" if 38 < top < 62 else "" for top in bins)
            if letter
        ]
        assert without_repeats(tones) == without_repeats([PHONES[i - 1] for i in phones[:count]])


def test_a_reader_hears_many_rooms_and_microphones():
    """Of what is read, some in a room (here one with an echo) and some through a filter."""
    burst = torch.randn(200, RATE // 4, generator=torch.Generator().manual_seed(0))
    audio = torch.nn.functional.pad(burst, (0, RATE // 2))
    room = torch.zeros(1, RATE // 2)
    room[0, 0], room[0, RATE // 3] = 1.0, 0.5
    nothing = torch.zeros(200, 1, dtype=torch.long)
    batch = UtteranceBatch(audio, nothing, nothing[:, 0], torch.zeros_like(audio))
    heard = prepare(batch, room)
    echoes = heard[:, RATE // 3 :].square().mean(1) > 0.01 * heard[:, : RATE // 4].square().mean(1)
    low, high = slice(100, 150), slice(400, 600)  # of 4 Hz, below what telephones leave out
    power = [torch.fft.rfft(each[:, : RATE // 4]).abs().square() for each in (audio, heard)]
    tilt_db = [10 * (each[:, high].mean(1) / each[:, low].mean(1)).log10() for each in power]
    filtered = (tilt_db[1] - tilt_db[0]).abs() > 1
    assert 0.3 < echoes.float().mean() < 0.7
    assert 0.35 < filtered.float().mean() < 0.75


DEFAULT = objective.PhoneTrainConfig()


def prepare(
    batch: UtteranceBatch, rooms: torch.Tensor, augmentation: AugmentConfig = DEFAULT
) -> torch.Tensor:
    """The augmented audio of a batch."""
    generator = torch.Generator().manual_seed(0)
    return objective.PhoneObjective(rooms, augmentation).prepare(batch, generator).audio


def without_repeats(phones: list[str]) -> list[str]:
    return [letter for letter, _ in itertools.groupby(phones)]


def alignments(frames: int, phones: tuple[int, ...]):
    """Every way to say so many letters in so many frames."""
    for path in itertools.product(range(3), repeat=frames):
        if tuple(letter for letter, _ in itertools.groupby(path) if letter) == phones:
            yield path


def test_loss_is_that_of_all_alignments():
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    output = Output(logits, logits, logits, logits[:, :0])
    log_p = logits[0].log_softmax(0)
    total = torch.stack(
        [
            sum(log_p[letter, frame] for frame, letter in enumerate(path))
            for path in alignments(4, (1, 2))
        ]
    ).logsumexp(0)
    loss = objective.phone_ctc_loss(output.logits, torch.tensor([[1, 2]]), torch.tensor([2]))
    torch.testing.assert_close(loss, -total / 2)


def test_repeated_frames_are_one_letter():
    best = [0, 1, 1, 0, 1, 2, 2, 0]
    logits = torch.nn.functional.one_hot(torch.tensor(best), 3).T[None].float()
    assert objective.decode_greedily(Output(logits, logits, logits, logits[:, :0])) == [
        PHONES[0] * 2 + PHONES[1]
    ]


@cache
def edits(a: str, b: str) -> int:
    """By the definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]))


@pytest.mark.parametrize(
    ("a", "b"), [("", "abc"), ("abc", ""), ("kitten", "sitting"), ("abcd", "badc"), ("aab", "aab")]
)
def test_distance(a, b):
    assert objective.edit_distance(a, b) == edits(a, b)


def train(
    path,
    *,
    epochs: int = 2,
    steps: int = 2,
    resume: bool = False,
    stop_after: int | None = None,
    start=None,
) -> list[dict]:
    progress = EpochLog(stop_after)
    train_config = TrainConfig(
        epochs=epochs,
        steps_per_epoch=steps,
        batch=8,
        learning_rate=2e-2,
        ema_decay=0.9,
        snr_db=(20.0, 40.0),
    )
    rooms = torch.from_numpy(simulate_room_responses(2, np.random.default_rng(0)))
    config = objective.make_phone_recognizer_config(
        **{key: SMALL[key] for key in ("mels", "channels", "kernels")}
    )
    objective.train(
        make_readings(seed=9),
        make_readings(),
        rooms,
        train_config,
        config,
        path,
        init_from=start,
        resume=resume,
        progress=progress,
    )
    return progress.epochs


def test_a_network_begins_to_read(tmp_path):
    """One that learned nothing writes nothing, and has all letters wrong."""
    assert train(tmp_path / "a.pt", epochs=1, steps=180)[-1]["phone_error_rate"] < 0.7


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    train(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts.pt", stop_after=1)
    train(tmp_path / "parts.pt", resume=True)
    whole, parts = (
        checkpoint.load(tmp_path / name)["ema_network"] for name in ("whole.pt", "parts.pt")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert load_network(tmp_path / "whole.pt").config.words == (BLANK, *PHONES)


def test_another_network_to_begin_with_is_learned_on_from(tmp_path):
    """From one that reads, few steps lead to fewer wrong letters than from nothing."""
    train(tmp_path / "a.pt", epochs=1, steps=180)
    begun = train(tmp_path / "b.pt", epochs=1, steps=4, start=load_network(tmp_path / "a.pt"))
    assert (
        begun[-1]["phone_error_rate"]
        < train(tmp_path / "c.pt", epochs=1, steps=4)[-1]["phone_error_rate"]
    )


def test_a_finished_training_without_its_optimiser_is_not_resumed(tmp_path):
    train(tmp_path / "a.pt")
    saved = checkpoint.load(tmp_path / "a.pt")
    checkpoint.save(
        {name: saved[name] for name in saved if name not in ("network", "optimiser")},
        tmp_path / "a.pt",
    )
    with pytest.raises(DataError, match="finished training"):
        train(tmp_path / "a.pt", resume=True)


def test_filters_and_rooms_are_drawn_apart():
    """A click heard in a room has an echo; through a filter its spectrum is not flat. There are
    clips with both, either and none."""
    room = torch.zeros(1, RATE // 2)
    room[0, 0], room[0, 4000] = 1.0, 0.5
    clicks = torch.zeros(128, 2 * RATE)
    clicks[:, RATE] = 1.0
    batch = UtteranceBatch(
        clicks,
        torch.zeros(128, 1, dtype=torch.long),
        torch.ones(128, dtype=torch.long),
        torch.zeros_like(clicks),
    )
    heard = prepare(batch, room, replace(DEFAULT, snr_db=(60.0, 60.0)))
    direct, echo = (heard[:, at - 1500 : at + 1500] for at in (RATE, RATE + 4000))
    echoes = echo.abs().amax(1) > 0.2 * direct.abs().amax(1)
    spectrum = torch.fft.rfft(direct).abs()
    low, high = (spectrum[:, round(hz * 3000 / RATE)] for hz in (300, 1500))
    filtered = (low / high).log().abs() > 0.02
    counts = [
        int(((echoes == roomy) & (filtered == dull)).sum())
        for roomy in (True, False)
        for dull in (True, False)
    ]
    assert min(counts) > 10, counts
