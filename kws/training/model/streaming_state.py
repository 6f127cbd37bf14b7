"""What the layers of a network need of what was heard before."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class StreamingState:
    """Walks along the layers' shares of the flat state and gathers the new ones."""

    previous: list[Tensor] | None
    next: list[Tensor] = field(default_factory=list)

    def extend(self, x: Tensor, context_frames: int) -> Tensor:
        """x [B, C, T] with this layer's past in front; the last `context_frames` frames become its
        next past."""
        if self.previous is not None:
            x = torch.cat([self.previous[len(self.next)], x], dim=-1)
        self.next.append(x[..., x.shape[-1] - context_frames :])
        return x
