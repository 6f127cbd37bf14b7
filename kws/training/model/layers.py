"""torch's lists and convolutions with types that say what is in them."""

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


class Layers(nn.ModuleList, Generic[Layer]):
    """A ModuleList of layers of one kind."""

    def __iter__(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], super().__iter__())


def bias_of(convolution: nn.Conv1d) -> Tensor:
    """The bias [C] of a convolution that has one."""
    assert convolution.bias is not None
    return convolution.bias
