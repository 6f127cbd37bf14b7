"""Checkpoints: plain dicts and tensors, read with `weights_only=True`, written beside and then renamed, so that a killed write
leaves the one before."""

import os
import pickle
from pathlib import Path

import torch

from kws.errors import ModelError

FORMAT = 1


def save(checkpoint: dict, path: Path) -> None:
    """Writes atomically. Raises ModelError when the disk is full or the folder cannot be written."""
    partial = path.with_suffix(".partial.pt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"format": FORMAT, **checkpoint}, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise ModelError(f"{path}: cannot be written ({error}). Free some space or choose another place with --out.") from error
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> dict:
    """Raises ModelError for a missing, damaged or foreign file."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such checkpoint.") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: not a checkpoint of kws, or a damaged one.") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise ModelError(f"{path}: not a checkpoint this kws can read (format {FORMAT}).")
    return checkpoint
