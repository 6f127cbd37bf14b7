"""The front end: log-mel energies of audio."""

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from kws.audio.recordings import SAMPLE_RATE
from kws.training.model.config import NetworkConfig
from kws.training.model.streaming_state import Context, StreamingState


class LogMel(nn.Module):
    """Audio [B, N] → log-mel energies [B, mels, T], T = (N - window) // hop + 1. Frame t begins at
    sample t · hop; with a past, at hop - window before that.

    Outside training the windowed DFT is a product with fixed matrices, which every runtime computes
    fast for a few frames. About its centre a frame is the sum of an even signal, which has only
    cosines, and an odd one, which has only sines: folding the frame first halves the work. Training
    computes thousands of frames at once, where the fast transform takes half the time.
    """

    cosine: Tensor  # [window / 2, bins]
    sine: Tensor  # [window / 2, bins]
    mel: Tensor  # [bins, mels]
    window: Tensor  # [window]
    mel_real_imaginary: Tensor  # [2 · all bins, mels]

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.window_samples, self.hop_samples = config.window_samples, config.hop_samples
        self.floor = config.log_floor
        self.context = Context(self.window_samples - self.hop_samples)
        n = self.window_samples
        mel = librosa.filters.mel(
            sr=SAMPLE_RATE,
            n_fft=n,
            n_mels=config.mels,
            fmin=config.low_hz,
            fmax=config.high_hz,
            dtype=np.float64,
        )
        periodic_hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
        self.set_filters(periodic_hann, mel.T)

    def set_filters(self, window: np.ndarray, mel: np.ndarray) -> None:
        """Sets the analysis window [window], and the filters of the bands [all bins, mels]. Raises
        ValueError for a window that is not even about its centre and 0 at sample 0."""
        n, half = len(window), len(window) // 2
        is_even = n % 2 == 0 and np.allclose(window[1:half], window[:half:-1], atol=1e-6)
        if window[0] != 0 or not is_even:
            raise ValueError("the analysis window must be even about its centre, and begin with 0")
        bins = np.flatnonzero(mel.any(axis=1))
        offsets_from_centre = np.arange(half)
        angle = 2 * np.pi / n * np.outer(offsets_from_centre, bins)
        cosine = window[half:, None] * np.cos(angle)
        cosine[0] /= 2  # folding adds the centre sample to itself
        self._add_constant("cosine", cosine)
        self._add_constant("sine", window[half:, None] * np.sin(angle))
        self._add_constant("mel", mel[bins])
        self._add_constant("window", window)
        self._add_constant("mel_real_imaginary", mel.repeat(2, axis=0))

    def _add_constant(self, name: str, values: np.ndarray) -> None:
        tensor = torch.tensor(values.copy(), dtype=torch.float32)
        self.register_buffer(name, tensor, persistent=False)

    def forward(self, audio: Tensor, state: StreamingState | None = None) -> Tensor:
        if state is not None:
            audio = self.context(audio, state)
        frames = self._frames(audio)
        energies = self._mel_by_fft(frames) if self.training else self._mel_by_matrix(frames)
        return (energies + self.floor).log().transpose(-1, -2)

    def _frames(self, audio: Tensor) -> Tensor:
        """Overlapping frames [B, T, window], as `audio.unfold` gives them, from rows of one hop
        each: in ONNX these are slices, and not a gather."""
        hop = self.hop_samples
        whole_hops, rest = divmod(self.window_samples, hop)
        surplus = (audio.shape[-1] - self.window_samples) % hop
        if surplus:
            audio = audio[:, :-surplus]
        rows = [
            _rows(audio[:, start : start + hop - self.window_samples or None], hop)
            for start in range(0, whole_hops * hop, hop)
        ]
        if rest:
            rows.append(_rows(audio[:, self.window_samples - hop :], hop)[..., hop - rest :])
        return torch.cat(rows, dim=-1)

    def _mel_by_fft(self, frames: Tensor) -> Tensor:
        """Mel energies [B, T, mels] of frames [B, T, window]: real and imaginary parts stand side
        by side, and their squares add up."""
        parts = torch.view_as_real(torch.fft.rfft(frames * self.window)).flatten(-2)
        return parts.square() @ self.mel_real_imaginary

    def _mel_by_matrix(self, frames: Tensor) -> Tensor:
        half = self.window_samples // 2
        after, before = frames[..., half:], frames[..., 1 : half + 1].flip(-1)
        real, imaginary = (after + before) @ self.cosine, (after - before) @ self.sine
        return (real * real + imaginary * imaginary) @ self.mel


def _rows(audio: Tensor, length: int) -> Tensor:
    """[B, T · length] → [B, T, length]."""
    return audio.view(audio.shape[0], -1, length)
