"""torch's batch norm, with its buffers' types."""

from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """[B, C, T] → [B, C, T]."""

    momentum: float
    running_mean: Tensor  # [C]
    running_var: Tensor  # [C]
    num_batches_tracked: Tensor
