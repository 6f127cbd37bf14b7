"""Per-channel energy normalisation: each band divided by what it was lately, so that level and steady noise hardly matter."""

import math

import torch
from torch import Tensor, nn

from kws.training.past import Past

ROOT, OFFSET, GAIN = 0.5, 2.0, 0.98  # to begin with
FAINTEST = 1e-6


class Pcen(nn.Module):
    """Log energies [B, bands, T] → normalised ones, all but the smoothing learned (Wang et al., arXiv 1607.05666)."""

    def __init__(self, bands: int, smoothing: float, floor: float):
        """smoothing: share of the newest hop in the mean that follows a band; floor: energy that was added to all."""
        super().__init__()
        self.smoothing, self.floor = smoothing, floor
        self.gain = nn.Parameter(torch.full((bands, 1), GAIN))
        self.offset = nn.Parameter(torch.full((bands, 1), math.log(OFFSET)))
        self.root = nn.Parameter(torch.full((bands, 1), ROOT))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        # Without the floor, silence has a mean of 0: what any engine begins with, exactly.
        mean = self._followed(x.exp() - self.floor, past)
        offset, root = self.offset.exp(), self.root.clamp(0.05, 1.0)
        return (torch.exp(x - self.gain.clamp(0.0, 1.0) * (mean + (FAINTEST + self.floor)).log()) + offset) ** root - offset**root

    def _followed(self, energy: Tensor, past: Past) -> Tensor:
        """Exponential mean of each band; of the first hop alone where nothing is known of what was before."""
        before = energy[..., :1] if past.old is None else past.old[len(past.new)]
        at = torch.arange(energy.shape[-1], device=energy.device)
        age = at[None, :] - at[:, None]  # of each hop (row) at each hop
        decay = 1.0 - self.smoothing
        weights = torch.where(age >= 0, self.smoothing * decay ** age.clamp(min=0), 0.0)
        mean = energy @ weights + before * decay ** (at + 1)
        past.new.append(mean[..., -1:])
        return mean
