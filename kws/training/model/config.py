"""What defines the architecture of a network."""

from dataclasses import asdict, dataclass
from typing import Any

from kws.training.model.conv2d_stem import RESIDUAL_BLOCKS, RESIDUAL_FRAMES


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that defines the architecture; sizes in samples or frames follow from it.

    Raises ValueError where a layer over time would need no past.
    """

    words: tuple[str, ...]
    mels: int = 40
    channels: int = 96
    stem_kernel: int = 5
    # Of a stem with convolutions over time and frequency; 0: one over time alone.
    band_channels: int = 0
    kernels: tuple[int, ...] = (9, 9, 11, 11, 13, 15)
    pooling: str = "gem"
    pool_frames: int = 5
    window_samples: int = 400  # 25 ms
    hop_samples: int = 160  # 10 ms
    stride: int = 2
    low_hz: float = 60.0
    high_hz: float = 7600.0
    log_floor: float = 1e-7
    # Those that a second head recognises, frame by frame.
    phones: str = ""

    def __post_init__(self) -> None:
        if self.pool_frames < 2 or min(self.kernels) < 2 or self.stem_kernel <= self.stride:
            raise ValueError(
                "every layer must need some past: pool_frames and kernels ≥ 2, stem_kernel > stride"
            )

    @property
    def frame_samples(self) -> int:
        """Samples from one score to the next."""
        return self.hop_samples * self.stride

    @property
    def receptive_field_samples(self) -> int:
        """Samples that a frame's probability depends on."""
        frames = sum(kernel - 1 for kernel in self.kernels)
        if self.band_channels:
            frames += RESIDUAL_BLOCKS * (RESIDUAL_FRAMES - 1)
        hops = (self.stem_kernel - 1) + self.stride * frames
        return self.window_samples + hops * self.hop_samples

    @property
    def clip_frame_samples(self) -> int:
        """Samples that a pooled score depends on. In a clip without a past the first frame ends
        there."""
        return self.receptive_field_samples + (self.pool_frames - 1) * self.frame_samples

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "words": list(self.words), "kernels": list(self.kernels)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "NetworkConfig":
        words, kernels = tuple(values["words"]), tuple(values["kernels"])
        return cls(**{**values, "words": words, "kernels": kernels})


SIZES: dict[str, dict[str, Any]] = {
    "small": {"channels": 96, "kernels": (9, 9, 11, 11, 13, 15)},  # up to 100 000 parameters
    "large": {"channels": 208, "kernels": (7, 9, 9, 11, 11, 13, 13)},  # up to 400 000
}
