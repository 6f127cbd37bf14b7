"""What the layers of a network need of what was heard before."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Past:
    """Walks along the layers' shares of the flat state and gathers the new ones."""

    old: list[Tensor] | None
    new: list[Tensor] = field(default_factory=list)

    def extend(self, x: Tensor, keep: int) -> Tensor:
        """x [B, C, T] with this layer's past in front; the last `keep` frames become its
        next past."""
        if self.old is not None:
            x = torch.cat([self.old[len(self.new)], x], dim=-1)
        self.new.append(x[..., x.shape[-1] - keep :])
        return x
