"""Per-channel energy normalisation: the formula of the paper, and what it is for."""

import numpy as np
import pytest
import torch

from kws.training.past import Past
from kws.training.pcen import FAINTEST, FORGOTTEN, Pcen

BANDS, HOPS, LENGTH = 5, 12, 40


def made(gain: float = 0.9, offset: float = 2.0, root: float = 0.5) -> Pcen:
    pcen = Pcen(BANDS, HOPS)
    with torch.no_grad():
        for free, value in ((pcen.gain, gain), (pcen.log_offset, np.log(offset)), (pcen.root, root)):
            free.fill_(value)
    return pcen


def energies(seed: int = 0) -> torch.Tensor:
    return torch.exp(torch.randn(2, BANDS, LENGTH, generator=torch.Generator().manual_seed(seed)) * 2)


@torch.no_grad()
def normalised(pcen: Pcen, energy: torch.Tensor) -> torch.Tensor:
    return pcen(energy, Past(None))


@pytest.mark.parametrize(("gain", "offset", "root"), [(0.98, 2.0, 0.5), (0.5, 0.1, 0.25), (1.0, 10.0, 1.0)])
def test_each_hop_is_the_formula_of_its_past(gain, offset, root):
    energy = energies()
    found = normalised(made(gain, offset, root), energy).numpy()
    assert found.shape == (2, BANDS, LENGTH - HOPS + 1)
    decay = np.exp(-FORGOTTEN * np.arange(HOPS)[::-1] / (HOPS - 1))
    for hop in range(found.shape[-1]):
        past = energy[..., hop : hop + HOPS].numpy().astype(float)
        mean = (past * decay).sum(-1) / decay.sum()
        expected = (past[..., -1] / (mean + FAINTEST) ** gain + offset) ** root - offset**root
        np.testing.assert_allclose(found[..., hop], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [0.01, 100.0])
def test_level_is_gone_where_the_gain_is_one(level):
    pcen, energy = made(gain=1.0), energies() + 1.0
    torch.testing.assert_close(normalised(pcen, energy * level), normalised(pcen, energy), rtol=1e-3, atol=1e-3)
    assert (normalised(made(gain=0.5), energy * level) - normalised(made(gain=0.5), energy)).abs().max() > 0.1


def test_what_is_steady_is_the_same_in_all_bands():
    steady = torch.tensor([1.0, 10.0, 0.1, 100.0, 5.0])[None, :, None].expand(1, BANDS, LENGTH)
    torch.testing.assert_close(
        normalised(made(gain=1.0), steady), torch.full((1, BANDS, LENGTH - HOPS + 1), 3**0.5 - 2**0.5), rtol=0, atol=1e-4
    )


def test_bounds_hold_whatever_was_learned():
    gain, offset, root = made(gain=7.0, offset=1e-9, root=-3.0).exponents()
    assert (gain == 1.0).all()
    assert (offset > 0).all()
    assert (root == root.clamp(min=0.05)).all()
