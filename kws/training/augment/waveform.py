"""Augments a whole batch of speech on its device: rooms and microphones, noise, gain, clipping.

Each function takes audio [B, N] in ±1 and a torch generator and returns audio [B, N]. Random
numbers are drawn on the CPU, so that every device draws the same. The word stays in its place:
impulse responses begin at their direct sound.
"""

import math

import torch
import torchaudio.functional
from torch import Tensor

from kws.audio.recordings import SAMPLE_RATE
from kws.training.augment.config import AugmentConfig

EQUALIZER_KNOTS, EQUALIZER_HZ = 7, (125.0, 8000.0)  # one knot per octave
LEVEL_FRAME_SAMPLES = SAMPLE_RATE // 50
SILENCE_REFERENCE_LEVEL = 0.1  # of speech; noise over silence is as loud as under such speech


def seeded_generator(seed: int, index: int) -> torch.Generator:
    """The generator of batch number `index` of a run with this seed."""
    return torch.Generator().manual_seed(seed * 1_000_003 + index)


def augment(
    audio: Tensor, noise: Tensor, rooms: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """Audio [B, N] as microphones might record it. noise [B, N] at unit level; rooms [R, K]:
    impulse responses (`kws.training.augment.rooms`). Depends on nothing but its arguments."""
    audio = add_reverberation(audio, rooms, config, generator)
    audio = equalize(audio, config, generator)
    audio = add_noise(audio, noise, config, generator)
    audio = limit_bandwidth(audio, config, generator)
    return apply_gain(audio, config, generator)


def add_reverberation(
    audio: Tensor, rooms: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """A fraction of the batch in a random room, at the same level."""
    selected = _random_subset(audio, config.room_fraction, generator)
    if not len(selected):
        return audio
    room = rooms[torch.randint(len(rooms), (len(selected),), generator=generator).to(rooms.device)]
    # Transforms are several times faster at lengths with small factors.
    room = torch.nn.functional.pad(room, (0, -(audio.shape[1] + room.shape[1] - 1) % 4000))
    reverberant = torchaudio.functional.fftconvolve(audio[selected], room)[:, : audio.shape[1]]
    return _replace_rows(audio, selected, reverberant)


def equalize(audio: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """A fraction of the batch through a smooth random filter, at the same level, so that no voice
    is recognised by its microphone."""
    selected = _random_subset(audio, config.equalized_fraction, generator)
    if not len(selected):
        return audio
    padded = torch.nn.functional.pad(audio[selected], (0, -audio.shape[1] % 4000))  # as above
    frequency = torch.fft.rfftfreq(padded.shape[1], 1 / SAMPLE_RATE)
    octave = (frequency / EQUALIZER_HZ[0]).clamp_min(1).log2()
    octaves = math.log2(EQUALIZER_HZ[1] / EQUALIZER_HZ[0])
    position = (octave / octaves * (EQUALIZER_KNOTS - 1)).clamp_max(EQUALIZER_KNOTS - 1.001)
    knots_db = config.equalizer_db * torch.randn(
        len(selected), EQUALIZER_KNOTS, generator=generator
    )
    below = position.long()
    gain_db = torch.lerp(knots_db[:, below], knots_db[:, below + 1], position.frac())
    spectrum = torch.fft.rfft(padded) * (10 ** (gain_db / 20)).to(audio.device)
    filtered = torch.fft.irfft(spectrum, padded.shape[1])[:, : audio.shape[1]]
    return _replace_rows(audio, selected, filtered)


def add_noise(
    audio: Tensor, noise: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """Noise [B, N] added to a fraction of the batch, this much below the speech. Over silence it
    has the level that it would have under ordinary speech."""
    snr_db = torch.empty(len(audio), 1).uniform_(*config.snr_db, generator=generator)
    is_clean = torch.rand(len(audio), 1, generator=generator) >= config.noisy_fraction
    snr_db[is_clean] = torch.inf
    level = speech_level(audio)
    reference = torch.where(level > 0, level, SILENCE_REFERENCE_LEVEL)
    return audio + noise * reference * 10 ** (-snr_db.to(audio.device) / 20)


def speech_level(audio: Tensor) -> Tensor:
    """Root mean square [B, 1] over the loudest third of the 20 ms frames: of the speech, without
    the pauses around it."""
    frames = audio[:, : audio.shape[1] // LEVEL_FRAME_SAMPLES * LEVEL_FRAME_SAMPLES]
    power = frames.unflatten(1, (-1, LEVEL_FRAME_SAMPLES)).square().mean(-1)
    loudest = power.topk(max(power.shape[1] // 3, 1), dim=1).values
    return loudest.mean(1, keepdim=True).sqrt()


def limit_bandwidth(audio: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """A fraction of the batch with nothing above a random frequency."""
    selected = _random_subset(audio, config.band_limited_fraction, generator)
    if not len(selected):
        return audio
    limit_hz = torch.empty(len(selected), 1).uniform_(*config.band_limit_hz, generator=generator)
    frequency = torch.fft.rfftfreq(audio.shape[1], 1 / SAMPLE_RATE, device=audio.device)
    low_pass = 1 / (1 + (frequency / limit_hz.to(audio.device)) ** 24).sqrt()
    spectrum = torch.fft.rfft(audio[selected]) * low_pass
    return audio.index_put((selected,), torch.fft.irfft(spectrum, audio.shape[1]))


def apply_gain(audio: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """A fraction of the batch at a random peak level, some of it clipped; the rest only limited to
    ±1."""
    peak_db = torch.empty(len(audio), 1).uniform_(*config.peak_db, generator=generator)
    is_clipped = torch.rand(len(audio), 1, generator=generator) < config.clipped_fraction
    peak_db[is_clipped] = 10.0
    peak = audio.abs().amax(1, keepdim=True).clamp_min(1e-4)
    gain = 10 ** (peak_db.to(audio.device) / 20) / peak
    is_changed = torch.rand(len(audio), 1, generator=generator) < config.gain_fraction
    return torch.where(is_changed.to(audio.device), audio * gain, audio).clamp(-1, 1)


def mute_outside(audio: Tensor, recorded: Tensor) -> Tensor:
    """Digital silence before and after recordings [B, 2], in samples."""
    samples = torch.arange(audio.shape[1], device=audio.device)
    is_recorded = (samples >= recorded[:, :1]) & (samples < recorded[:, 1:])
    return audio * is_recorded


def _random_subset(audio: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Indices of a fraction of the batch."""
    is_selected = torch.rand(len(audio), generator=generator) < fraction
    return is_selected.nonzero().squeeze(1).to(audio.device)


def _replace_rows(audio: Tensor, rows: Tensor, changed: Tensor) -> Tensor:
    """Audio whose rows have changed, each at its former level."""
    gain = _rms(audio[rows]) / (_rms(changed) + 1e-9)
    return audio.index_put((rows,), changed * gain)


def _rms(audio: Tensor) -> Tensor:
    return audio.square().mean(1, keepdim=True).sqrt()
