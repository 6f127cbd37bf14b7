"""The streaming state: what the layers of a network need of the audio before.

A layer over time declares its share by a `Context`. A `StreamingState` walks the contexts of a
network and packs their shares into one flat tensor [B, S], in the order in which the network
registers them.
"""

from math import prod

import torch
from torch import Tensor, nn


class Context(nn.Module):
    """Puts the last frames of the past in front of a layer's input: [B, …, T] → [B, …, frames + T].

    shape: of one stream's share of the state, frames last. With 0 frames the input stays as it is.
    """

    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape

    @property
    def frames(self) -> int:
        return self.shape[-1]

    @property
    def size(self) -> int:
        return prod(self.shape)

    def forward(self, x: Tensor, state: "StreamingState") -> Tensor:
        return state.extend(self, x) if self.frames else x


class StreamingState:
    """The past of B streams during one pass through a network.

    flat: the state [B, S] before the new input. None: nothing is known of the past, and each layer
    gives fewer frames than it gets.
    """

    def __init__(self, network: nn.Module, flat: Tensor | None = None):
        self._contexts = contexts(network)
        self._past: dict[Context, Tensor] | None = None
        self._next: dict[Context, Tensor] = {}
        if flat is not None:
            shares = flat.split([context.size for context in self._contexts], dim=1)
            self._past = {
                context: share.view(-1, *context.shape)
                for context, share in zip(self._contexts, shares, strict=True)
            }

    def extend(self, context: Context, x: Tensor) -> Tensor:
        if self._past is not None:
            x = torch.cat([self._past[context], x], dim=-1)
        self._next[context] = x[..., -context.frames :]
        return x

    def pack(self) -> Tensor:
        """The state [B, S] after the new input."""
        return torch.cat([self._next[context].flatten(1) for context in self._contexts], dim=1)


def contexts(network: nn.Module) -> list[Context]:
    """The contexts that keep frames."""
    return [each for each in network.modules() if isinstance(each, Context) and each.frames]


def state_size(network: nn.Module) -> int:
    """S of a network's state [B, S]."""
    return sum(context.size for context in contexts(network))
