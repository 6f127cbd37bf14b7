"""Beginning with what another network has learned: all its layers but the head, which belongs to its own words."""

from pathlib import Path

import torch

from kws.errors import DataError
from kws.training.network import NetworkConfig, ScanningCNN
from kws.training.torch_engine import load_network

OWN = ("head.", "pooling.")  # what is not taken over


def with_trunk(config: NetworkConfig, checkpoint: Path, seed: int) -> ScanningCNN:
    """A new network whose layers are those of a checkpoint (.pt), with a head of its own, random by the seed.

    Raises ModelError for what is no checkpoint, DataError for one of another size.
    """
    with torch.random.fork_rng(devices=[]):
        source = load_network(checkpoint)
        torch.manual_seed(seed)
        network = ScanningCNN(config)
    taken = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith(OWN)}
    own = network.state_dict()
    other = [name for name, tensor in taken.items() if name not in own or own[name].shape != tensor.shape]
    if other or len(taken) < sum(not name.startswith(OWN) for name in own):
        raise DataError(f"{checkpoint}: is a network of another size. Train with the --size it has, or without --trunk.")
    network.load_state_dict(taken, strict=False)
    return network
