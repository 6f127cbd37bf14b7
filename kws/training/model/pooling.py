"""Pooling heads: from frame probabilities to one score per window, in log space.

Each head maps log p [*, T] to log scores [*, T - window + 1]: the score at a frame pools that frame
and the window - 1 before it. Because the window has a fixed length, a word scores the same wherever
it stands and however long the recording is; a recording's score is the maximum over its windows.
(GeM over a whole file would not do: one hit in T frames scores T^(-1/q).)

With y the probabilities in a window of n frames:

    max     max y
    mean    Σ y / n
    gem     (Σ y^q / n)^(1/q)      q ≥ 1 learned: q = 1 is the mean, q → ∞ the maximum
                                   Radenović et al., arXiv 1711.02512
    power   Σ y^(n+1) / Σ y^n      n ≥ 0 learned: n = 0 is the mean, n → ∞ the maximum
                                   Liu et al., arXiv 2010.09985
    none    the newest y           training then has a target for each frame by itself

"gem-fixed" is gem with q = 4, which is not learned.

Power pooling is not monotone in y: a window that misses the weaker frames of a hit scores higher
than one that holds them all.

Working with logsumexp of q · log y keeps values and gradients finite for probabilities down to
1e-30 and q up to 1 000.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Pooling(nn.Module):
    """Base: slides `pool` along the last axis. Subclasses pool the last axis of log y
    [*, T', window]."""

    def __init__(self, window_frames: int):
        super().__init__()
        self.window_frames = window_frames

    def forward(self, log_p: Tensor) -> Tensor:
        """log p [*, T] → log scores [*, T - window + 1]."""
        # Slices, as ONNX has no `unfold`.
        last = self.window_frames - 1
        shifted = [log_p[..., i : i - last or None] for i in range(self.window_frames)]
        return self.pool(torch.stack(shifted, dim=-1))

    def pool(self, log_y: Tensor) -> Tensor:
        raise NotImplementedError


class MaxPooling(Pooling):
    def pool(self, log_y: Tensor) -> Tensor:
        return log_y.amax(-1)


class MeanPooling(Pooling):
    def pool(self, log_y: Tensor) -> Tensor:
        return log_y.logsumexp(-1) - math.log(log_y.shape[-1])


class GeMPooling(Pooling):
    """Generalised mean; `q` is 1 + softplus of the free parameter, so it stays ≥ 1."""

    def __init__(self, window_frames: int, q: float = 4.0):
        super().__init__(window_frames)
        self.free = nn.Parameter(_inverse_softplus(q - 1))

    @property
    def q(self) -> Tensor:
        return 1 + F.softplus(self.free)

    def pool(self, log_y: Tensor) -> Tensor:
        return ((self.q * log_y).logsumexp(-1) - math.log(log_y.shape[-1])) / self.q


class FixedGeMPooling(GeMPooling):
    """Generalised mean whose exponent is not learned."""

    def __init__(self, window_frames: int, q: float = 4.0):
        super().__init__(window_frames, q)
        self.free.requires_grad_(False)


class PowerPooling(Pooling):
    """Mean weighted by y^n; `n` is the softplus of the free parameter, so it stays ≥ 0."""

    def __init__(self, window_frames: int, n: float = 1.0):
        super().__init__(window_frames)
        self.free = nn.Parameter(_inverse_softplus(n))

    @property
    def n(self) -> Tensor:
        return F.softplus(self.free)

    def pool(self, log_y: Tensor) -> Tensor:
        return ((self.n + 1) * log_y).logsumexp(-1) - (self.n * log_y).logsumexp(-1)


class NoPooling(Pooling):
    """The window's newest frame alone."""

    def pool(self, log_y: Tensor) -> Tensor:
        return log_y[..., -1]


POOLINGS: dict[str, type[Pooling]] = {
    "gem": GeMPooling,
    "gem-fixed": FixedGeMPooling,
    "max": MaxPooling,
    "mean": MeanPooling,
    "power": PowerPooling,
    "none": NoPooling,
}


def _inverse_softplus(y: float) -> Tensor:
    # softplus is never 0: the smallest value stands for it. Above 20 it is the identity to
    # float precision.
    y = max(y, 1e-6)
    return torch.tensor(float(y) if y > 20 else math.log(math.expm1(y)))
