"""The state of a training: network, running average, optimiser and history, saved as one."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kws.errors import DataError
from kws.training.fit.config import TrainConfig
from kws.training.model import checkpoint, provenance
from kws.training.model.network import NetworkConfig, ScanningCNN

_MISMATCHES = {
    "network_config": "another network",
    "train_config": "other training settings",
    "fingerprint": "other data",
    "init_digest": "another pre-trained encoder",
}


class TrainState:
    """All state of the training loop. `history` has one entry per finished epoch.

    fingerprint: identifies the training data; a checkpoint of other data is not resumed.
    """

    def __init__(
        self,
        config: NetworkConfig,
        train_config: TrainConfig,
        device: torch.device,
        fingerprint: str,
    ):
        torch.manual_seed(train_config.seed)
        self.train_config, self.device, self.fingerprint = train_config, device, fingerprint
        self.network = ScanningCNN(config).to(device)
        self.network.mixed_precision = train_config.mixed_precision
        self.ema_model = AveragedModel(
            self.network, multi_avg_fn=_ema_with_warmup(train_config.ema_decay), use_buffers=True
        )
        self.optimiser = torch.optim.AdamW(
            _parameter_groups(self.network, train_config.weight_decay),
            lr=train_config.learning_rate,
        )
        self.history: list[dict] = []
        self.init_digest: str | None = None  # of the weights of `init_from`

    @property
    def ema_network(self) -> ScanningCNN:
        """The network with averaged weights: what is validated and exported."""
        network = self.ema_model.module
        assert isinstance(network, ScanningCNN)
        return network

    def init_from(self, pretrained: ScanningCNN) -> None:
        """Copies the weights of a network of the same config."""
        self.init_digest = _weights_digest(pretrained)
        self.network.load_state_dict(pretrained.state_dict())
        self.ema_network.load_state_dict(pretrained.state_dict())

    def save(self, path: Path) -> None:
        """Writes a checkpoint (.pt). Raises ModelError when it cannot be written."""
        checkpoint.save(
            {
                **self._identity(),
                "history": self.history,
                "provenance": {
                    "command": provenance.reproduce_command(),
                    "versions": provenance.versions(),
                },
                "ema_updates": int(self.ema_model.n_averaged),
                "network": self.network.state_dict(),
                "ema_network": self.ema_network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
            path,
        )

    def resume_from(self, path: Path) -> str:
        """Restores a checkpoint if it exists, and returns a message that says which. A run that
        stopped within its first epoch has saved none, and starts anew."""
        if not path.exists():
            return f"{path}: nothing was saved there yet; training begins anew"
        self.restore(path)
        return f"resuming after epoch {len(self.history)} of {self.train_config.epochs}"

    def restore(self, path: Path) -> None:
        """Loads a checkpoint. The training continues with the precision it began with, whatever
        this machine would choose.

        Raises DataError for a checkpoint of another network, config, data or encoder, or of one
        without optimiser.
        """
        saved = checkpoint.load(path)
        if "optimiser" not in saved:
            raise DataError(
                f"{path}: is of a finished training and keeps no optimiser; it cannot be resumed. "
                "Begin with it: --init-from."
            )
        precision = tuple(saved["train_config"]["mixed_precision"])
        self.train_config = replace(self.train_config, mixed_precision=precision)
        self.network.mixed_precision = precision
        self._check_identity(saved, path)
        self.network.load_state_dict(saved["network"])
        self.ema_network.load_state_dict(saved["ema_network"])
        self.ema_model.n_averaged.fill_(saved["ema_updates"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.history = saved["history"]

    def _identity(self) -> dict:
        """What must be equal in a checkpoint that is resumed."""
        return {
            "network_config": self.network.config.to_dict(),
            "train_config": asdict(self.train_config),
            "fingerprint": self.fingerprint,
            "init_digest": self.init_digest,
        }

    def _check_identity(self, saved: dict, path: Path) -> None:
        for name, expected in self._identity().items():
            if saved.get(name) != expected:
                raise DataError(
                    f"{path}: was made with {_MISMATCHES[name]}"
                    f"{_describe_differences(saved.get(name), expected)}; it cannot be resumed. "
                    "Use the same, or start anew without --resume."
                )


def _describe_differences(before: object, now: object) -> str:
    """The settings that differ, as " (seed 0, now 1)"; "" for values that are no settings."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    changes = [
        f"{name} {before.get(name)}, now {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    return f" ({'; '.join(changes)})"


def _weights_digest(network: nn.Module) -> str:
    hasher = hashlib.sha256()
    for tensor in network.state_dict().values():
        hasher.update(tensor.cpu().numpy().tobytes())
    return hasher.hexdigest()[:16]


def _ema_with_warmup(decay: float) -> Callable:
    """Exponential moving average whose decay rises to its full value, so that the untrained weights
    of the beginning are soon forgotten."""

    def update(averages: list[Tensor], values: list[Tensor], update_count: Tensor) -> None:
        count = int(update_count)
        warm_decay = min(decay, (1 + count) / (10 + count))
        get_ema_multi_avg_fn(warm_decay)(averages, values, update_count)

    return update


def _parameter_groups(network: ScanningCNN, weight_decay: float) -> list[dict]:
    """Weights of convolutions decay; biases, batch norms and the pooling's exponent do not."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
