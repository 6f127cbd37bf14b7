"""What the world does to speech, for a whole batch at once and on its device: rooms and
microphones, noise, gain, clipping.

Each function takes audio [B, N] and a torch generator and gives audio [B, N]. Numbers are drawn on
the CPU, so that every device hears the same. The word stays where it was: impulse responses begin
at their direct sound.
"""

import math
from typing import Protocol

import torch
import torchaudio.functional
from torch import Tensor

from kws.audio.recordings import SAMPLE_RATE

PEAK_DB = (-35.0, 0.0)
# Deviation at each knot; one knot an octave.
EQUALIZER_DB, EQUALIZER_KNOTS, EQUALIZER_HZ = 5.0, 7, (125.0, 8000.0)


def seeded_generator(seed: int, index: int) -> torch.Generator:
    """For all that is drawn for one batch, by the seed of the training and the number of
    the batch."""
    return torch.Generator().manual_seed(seed * 1_000_003 + index)


class NoisyBatch(Protocol):
    """A batch of `audio` [B, N] with the `noise` [B, N] to be mixed in."""

    @property
    def audio(self) -> Tensor: ...

    @property
    def noise(self) -> Tensor: ...


def augment(
    batch: NoisyBatch,
    rooms: Tensor,
    snr_db: tuple[float, float],
    generator: torch.Generator,
    room_fraction: float = 0.9,
) -> Tensor:
    """Audio [B, N] of a batch as a microphone might have heard it. Depends on nothing but
    its arguments."""
    audio = add_reverberation(batch.audio, rooms, generator, room_fraction)
    audio = add_noise(audio, batch.noise, snr_db, generator)
    return apply_gain(limit_bandwidth(audio, generator), generator)


def add_reverberation(
    audio: Tensor, rooms: Tensor, generator: torch.Generator, fraction: float
) -> Tensor:
    """A fraction of the batch heard in a room. rooms [R, K]: impulse responses that begin at their
    direct sound."""
    selected = _random_subset(audio, generator, fraction)
    if not len(selected):
        return audio
    room = rooms[torch.randint(len(rooms), (len(selected),), generator=generator).to(rooms.device)]
    # Transforms are several times faster at lengths with small factors.
    room = torch.nn.functional.pad(room, (0, -(audio.shape[1] + room.shape[1] - 1) % 4000))
    reverberant = torchaudio.functional.fftconvolve(audio[selected], room)[:, : audio.shape[1]]
    level = _rms(audio[selected]) / (_rms(reverberant) + 1e-9)
    return audio.index_put((selected,), reverberant * level)


def add_noise(
    audio: Tensor,
    noise: Tensor,
    snr_db: tuple[float, float],
    generator: torch.Generator,
    fraction: float = 0.85,
) -> Tensor:
    """Noise [B, N] added to a fraction of the batch, this much below the speech. Where there is
    only silence the noise stands at the level it would have under ordinary speech."""
    noise_snr_db = torch.empty(len(audio), 1).uniform_(*snr_db, generator=generator)
    noise_snr_db[torch.rand(len(audio), 1, generator=generator) >= fraction] = torch.inf
    level = speech_level(audio)
    reference = torch.where(level > 0, level, 0.1)
    return audio + noise * reference * 10 ** (-noise_snr_db.to(audio.device) / 20)


def speech_level(audio: Tensor) -> Tensor:
    """Root mean square [B, 1] over the loudest third of the 20 ms frames: of the speech, not of the
    pauses around it."""
    frames = audio[:, : audio.shape[1] // 320 * 320].unflatten(1, (-1, 320)).square().mean(-1)
    return frames.topk(max(frames.shape[1] // 3, 1), dim=1).values.mean(1, keepdim=True).sqrt()


def limit_bandwidth(audio: Tensor, generator: torch.Generator, fraction: float = 0.2) -> Tensor:
    """A fraction of the batch with nothing above 3 to 7 kHz: telephones, codecs, speech recorded at
    lower rates."""
    selected = _random_subset(audio, generator, fraction)
    if not len(selected):
        return audio
    highest_hz = (
        torch.empty(len(selected), 1).uniform_(3000, 7000, generator=generator).to(audio.device)
    )
    frequency = torch.fft.rfftfreq(audio.shape[1], 1 / SAMPLE_RATE, device=audio.device)
    spectrum = torch.fft.rfft(audio[selected]) / (1 + (frequency / highest_hz) ** 24).sqrt()
    return audio.index_put((selected,), torch.fft.irfft(spectrum, audio.shape[1]))


def equalize(audio: Tensor, generator: torch.Generator, fraction: float) -> Tensor:
    """A fraction of the batch through a smooth random filter, so that no voice is known by
    its microphone."""
    selected = _random_subset(audio, generator, fraction)
    if not len(selected):
        return audio
    padded = torch.nn.functional.pad(audio[selected], (0, -audio.shape[1] % 4000))  # as above
    octaves = (
        (torch.fft.rfftfreq(padded.shape[1], 1 / SAMPLE_RATE) / EQUALIZER_HZ[0]).clamp_min(1).log2()
    )
    knot_position = (
        octaves / math.log2(EQUALIZER_HZ[1] / EQUALIZER_HZ[0]) * (EQUALIZER_KNOTS - 1)
    ).clamp_max(EQUALIZER_KNOTS - 1.001)
    knots = torch.randn(len(selected), EQUALIZER_KNOTS, generator=generator) * EQUALIZER_DB
    gain_db = torch.lerp(
        knots[:, knot_position.long()], knots[:, knot_position.long() + 1], knot_position.frac()
    )
    spectrum = torch.fft.rfft(padded) * (10 ** (gain_db / 20)).to(audio.device)
    filtered = torch.fft.irfft(spectrum, padded.shape[1])[:, : audio.shape[1]]
    return audio.index_put(
        (selected,), filtered * (_rms(audio[selected]) / (_rms(filtered) + 1e-9))
    )


def apply_gain(audio: Tensor, generator: torch.Generator) -> Tensor:
    """Peaks at -35 to 0 dB of full scale; one clip in twenty is driven into clipping."""
    peak_db = torch.empty(len(audio), 1).uniform_(*PEAK_DB, generator=generator)
    peak_db[torch.rand(len(audio), 1, generator=generator) < 0.05] = 10.0
    peak = audio.abs().amax(1, keepdim=True).clamp_min(1e-4)
    return (audio / peak * 10 ** (peak_db.to(audio.device) / 20)).clamp(-1, 1)


def _random_subset(audio: Tensor, generator: torch.Generator, fraction: float) -> Tensor:
    """Indices of a fraction of the batch."""
    return (
        (torch.rand(len(audio), generator=generator) < fraction)
        .nonzero()
        .squeeze(1)
        .to(audio.device)
    )


def _rms(audio: Tensor) -> Tensor:
    return audio.square().mean(1, keepdim=True).sqrt()
