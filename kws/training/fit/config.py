"""Training settings, and the learning rate of each step."""

import math
from dataclasses import dataclass

from kws.training.augment.config import AugmentConfig, MixConfig, max_word_seconds


@dataclass(frozen=True)
class TrainConfig(AugmentConfig, MixConfig):
    """Training settings. A checkpoint is resumed only with the settings it was made with."""

    epochs: int = 20
    steps_per_epoch: int = 400  # the network is validated and saved after each epoch
    batch: int = 32  # clips of one micro-batch
    accumulate: int = 1  # micro-batches of one step, over all processes
    clip_seconds: float = 3.0
    learning_rate: float = 2e-3  # after the warm-up
    weight_decay: float = 0.01
    warmup: float = 0.05  # fraction of all steps
    ema_decay: float = 0.9975  # of the running average of the weights, per step
    # Devices on which the blocks run in bfloat16; log-mel, head, pooling and loss never do.
    mixed_precision: tuple[str, ...] = ("cuda",)
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.steps_per_epoch

    @property
    def max_word_seconds(self) -> float:
        """Longest sound of a word that fits into a training example, in seconds."""
        return max_word_seconds(self.clip_seconds, self.speed_range[0])

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine down to zero."""
        warmup_steps = max(round(self.warmup * self.steps), 1)
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / warmup_steps
        decay_steps = max(self.steps - warmup_steps, 1)
        angle = math.pi * (step - warmup_steps) / decay_steps
        return self.learning_rate * 0.5 * (1 + math.cos(angle))


def bfloat16_devices() -> tuple[str, ...]:
    """Devices on which training is faster in bfloat16: GPUs, and a CPU with AVX512-BF16."""
    import torch

    if torch.cpu.get_capabilities().get("avx512_bf16", False):
        return ("cuda", "cpu")
    return ("cuda",)
