"""Per-channel energy normalisation: each band divided by its own mean of late, so that level and steady noise hardly matter."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kws.training.past import Past

FORGOTTEN = 2.4  # the oldest hop weighs exp(-2.4), a tenth, of the newest
GAIN, OFFSET, ROOT = 0.9, 2.0, 0.5  # to begin with
FAINTEST = 1e-6  # energy that a mean is never below


class Pcen(nn.Module):
    """Energies of bands [B, bands, T] → normalised ones, (E / (ε + M)^gain + offset)^root - offset^root; gain, offset and root of
    each band are learned (Wang et al., arXiv 1607.05666, equation 1).

    The mean M is over the last `hops`, the newest one included, which decay like those of the endless mean in the paper: so it needs
    no more of the past than so many hops, and streams like the other layers.
    """

    def __init__(self, bands: int, hops: int):
        super().__init__()
        self.keep = hops - 1
        decay = torch.exp(torch.linspace(-FORGOTTEN, 0, hops))
        self.register_buffer("weights", (decay / decay.sum())[None, None], persistent=False)
        self.gain = nn.Parameter(torch.full((bands, 1), GAIN))
        self.log_offset = nn.Parameter(torch.full((bands, 1), math.log(OFFSET)))
        self.root = nn.Parameter(torch.full((bands, 1), ROOT))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        x = past.extend(x, self.keep)
        gain, offset, root = self.exponents()
        mean = F.conv1d(x.flatten(0, 1).unsqueeze(1), self.weights).view(*x.shape[:2], -1)
        return (x[..., self.keep :] / (mean + FAINTEST) ** gain + offset) ** root - offset**root

    def exponents(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gain, offset and root of each band [bands, 1], within their bounds."""
        return self.gain.clamp(0.0, 1.0), self.log_offset.exp(), self.root.clamp(0.05, 1.0)
