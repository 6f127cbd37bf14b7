"""The stem that looks at bands: its kernels are the same for all of them, its norms are not."""

import pytest
import torch
from torch import Tensor

from kws.training.model.conv2d_stem import Bands
from kws.training.model.streaming_state import StreamingState

MELS, CHANNELS, QUARTER = 40, 3, 10
FRAMES = 30


def make_bands(mels: int = MELS) -> Bands:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Bands(mels, CHANNELS, kernel=5, stride=2).eval()


@torch.no_grad()
def heard(bands: Bands, mel: Tensor) -> Tensor:
    """[B, mels, T] → [B, channels, quarter of the bands, frames]"""
    return bands(mel, StreamingState(None)).unflatten(1, (CHANNELS, -1))


def tone(band: int) -> Tensor:
    """Energy around one band, at every second hop."""
    mel = torch.zeros(1, MELS, FRAMES)
    mel[:, band - 1 : band + 2, ::2] = 1.0
    return mel


@pytest.mark.parametrize("higher", [1, 2, 3])
def test_what_is_four_bands_higher_is_seen_one_band_higher(higher):
    bands, low = make_bands(), 16
    one, other = heard(bands, tone(low)), heard(bands, tone(low + 4 * higher))
    # Where no kernel reaches beyond the lowest and the highest band.
    inside = slice(3, QUARTER - 3 - higher)
    assert one[:, :, inside].std() > 0.01
    torch.testing.assert_close(
        other[:, :, higher:][:, :, inside], one[:, :, inside], rtol=0, atol=1e-6
    )


def test_each_band_has_a_norm_of_its_own():
    bands, mel = (
        make_bands(),
        torch.randn(1, MELS, FRAMES, generator=torch.Generator().manual_seed(0)),
    )
    before = heard(bands, mel)
    last = bands.residual[-1].norm
    last.bias.data.unflatten(0, (CHANNELS, QUARTER))[:, 4] += 1.0
    changed = (heard(bands, mel) - before).abs().amax(dim=(0, 1, 3)) > 0
    assert changed.nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize(("mels", "quarter"), [(40, 10), (13, 4), (4, 1), (1, 1)])
def test_number_of_outputs(mels, quarter):
    bands = make_bands(mels)
    assert bands.outputs == CHANNELS * quarter
    assert heard(bands, torch.zeros(2, mels, FRAMES)).shape[:3] == (2, CHANNELS, quarter)
