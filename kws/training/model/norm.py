"""Batch norm over the clips of all processes, so that a batch that is shared out is normalised as
if it were not."""

import torch
from torch import Tensor, nn

from kws.training import distributed


class BatchNorm(nn.BatchNorm1d):
    """torch's batch norm; where several processes train, mean and variance are of all their values.
    [B, C, T] → [B, C, T].

    torch's SyncBatchNorm is for GPUs only. All processes must bring equally many values.
    """

    momentum: float
    running_mean: Tensor  # [C]
    running_var: Tensor  # [C]
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.world_size() == 1:
            return super().forward(x)
        mean, variance = _global_moments(x.float())
        self._update_running_statistics(
            mean.detach(), variance.detach(), x.numel() // x.shape[1] * distributed.world_size()
        )
        scale = self.weight * (variance + self.eps).rsqrt()
        return ((x - mean[:, None]) * scale[:, None] + self.bias[:, None]).to(x.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics; as in torch the variance they follow is the
        unbiased one."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        self.num_batches_tracked += 1


def _global_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [C] over all processes, in one exchange; in double precision, as squares of
    means cancel."""
    variance, mean = (part.double() for part in torch.var_mean(x, dim=(0, 2), correction=0))
    mean, mean_square = distributed.all_reduce_mean(torch.stack([mean, variance + mean**2]))
    return mean.to(x.dtype), (mean_square - mean**2).clamp_min(0).to(x.dtype)
