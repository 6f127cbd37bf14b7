"""The same convolution as torch's, with the same gradients."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from kws.training.model.depthwise import DepthwiseConv


@pytest.mark.parametrize(
    ("batch", "channels", "frames", "kernel"),
    [(1, 1, 5, 5), (2, 3, 20, 1), (4, 8, 33, 7), (3, 5, 16, 15), (2, 3, 60, 21)],
)
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_torch_s(batch, channels, frames, kernel, bias):
    conv = DepthwiseConv(channels, kernel).double()
    if bias:
        conv.bias = torch.nn.Parameter(torch.randn(channels, dtype=torch.float64))
    x = torch.randn(batch, channels, frames, dtype=torch.float64, requires_grad=True)
    ours = conv(x)
    theirs = F.conv1d(x, conv.weight, conv.bias, groups=channels)
    torch.testing.assert_close(ours, theirs)
    wanted = torch.randn_like(theirs)
    inputs = [x, *conv.parameters()]
    for mine, other in zip(
        *(torch.autograd.grad((y * wanted).sum(), inputs) for y in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(mine, other)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), theirs)
