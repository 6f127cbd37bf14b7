"""What every model file says of its network and its training, whatever it was trained for."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.engine import Engine
from kws.runtime.model_file import FORMAT
from kws.runtime.postprocess import EventSettings
from kws.training.fit.state import TrainState
from kws.training.model import provenance
from kws.training.model.export import export
from kws.training.model.network import ScanningCNN
from kws.training.model.pretrained import VerifierSpec


def describe_network(network: ScanningCNN, settings: EventSettings) -> dict:
    """The entries of a model's document that follow from the network and its event settings."""
    config = network.config
    exponents = {
        name: getattr(network.pooling, name).item()
        for name in ("q", "n")
        if hasattr(network.pooling, name)
    }
    document = {
        "format": FORMAT,
        "words": list(config.words),
        "sample_rate": SAMPLE_RATE,
        "frame_samples": config.frame_samples,
        "frame_seconds": config.frame_samples / SAMPLE_RATE,
        "receptive_field_seconds": config.receptive_field_samples / SAMPLE_RATE,
        "context_samples": config.clip_frame_samples,
        "parameters": sum(p.numel() for p in network.parameters()),
        "pooling": {
            "kind": config.pooling,
            "window_seconds": config.pool_frames * config.frame_samples / SAMPLE_RATE,
            **exponents,
        },
        "events": asdict(settings),
    }
    if config.phones:
        document["phones"] = config.phones
    return document


def describe_training(state: TrainState, **details: Any) -> dict:
    """The entries of a model's document that tell how to train it again; `details` are added to
    "training"."""
    return {
        "training": {
            "command": provenance.reproduce_command(),
            "train_config": asdict(state.train_config),
            "network_config": state.network.config.to_dict(),
            "last_epoch": state.history[-1],
            "data_fingerprint": state.fingerprint,
            "device": state.device.type,
            **details,
        },
        "versions": provenance.versions(),
    }


def load_uncalibrated(
    network: ScanningCNN,
    scratch: Path,
    settings: EventSettings,
    verifier: VerifierSpec | None = None,
) -> Engine:
    """The network as its model file would run it.

    The file, `scratch`, is deleted again: nobody should use a model without its own thresholds.
    """
    try:
        export(network, describe_network(network, settings), scratch, verifier)
        return Engine.load(str(scratch))
    finally:
        with suppress(OSError):
            scratch.unlink()
