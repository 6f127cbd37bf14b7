"""The stem over time and frequency: all bands share its kernels, each has its own norm."""

import pytest
import torch
from torch import Tensor

from kws.training.model.conv2d_stem import Conv2dStem
from kws.training.model.streaming_state import StreamingState

MELS, CHANNELS, QUARTER = 40, 3, 10
FRAMES = 30


def make_stem(mels: int = MELS) -> Conv2dStem:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Conv2dStem(mels, CHANNELS, kernel=5, stride=2).eval()


@torch.no_grad()
def output(stem: Conv2dStem, mel: Tensor) -> Tensor:
    """[B, mels, T] → [B, channels, quarter of the bands, frames]"""
    return stem(mel.unsqueeze(2), StreamingState(stem)).squeeze(2).unflatten(1, (CHANNELS, -1))


def tone(band: int) -> Tensor:
    """Energy around one band, at every second hop."""
    mel = torch.zeros(1, MELS, FRAMES)
    mel[:, band - 1 : band + 2, ::2] = 1.0
    return mel


@pytest.mark.parametrize("higher", [1, 2, 3])
def test_a_shift_by_four_bands_shifts_the_output_by_one(higher):
    stem, band = make_stem(), 16
    low, high = output(stem, tone(band)), output(stem, tone(band + 4 * higher))
    # Where no kernel reaches beyond the lowest and the highest band.
    inside = slice(3, QUARTER - 3 - higher)
    assert low[:, :, inside].std() > 0.01
    torch.testing.assert_close(
        high[:, :, higher:][:, :, inside], low[:, :, inside], rtol=0, atol=1e-6
    )


def test_each_band_has_its_own_norm():
    stem = make_stem()
    mel = torch.randn(1, MELS, FRAMES, generator=torch.Generator().manual_seed(0))
    before = output(stem, mel)
    last = stem.residual[-1].norm
    last.bias.data.unflatten(0, (CHANNELS, QUARTER))[:, 4] += 1.0
    changed = (output(stem, mel) - before).abs().amax(dim=(0, 1, 3)) > 0
    assert changed.nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize(("mels", "quarter"), [(40, 10), (13, 4), (4, 1), (1, 1)])
def test_number_of_outputs(mels, quarter):
    stem = make_stem(mels)
    assert stem.outputs == CHANNELS * quarter
    assert output(stem, torch.zeros(2, mels, FRAMES)).shape[:3] == (2, CHANNELS, quarter)
