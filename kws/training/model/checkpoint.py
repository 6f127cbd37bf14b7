"""Checkpoints: plain dicts and tensors, read with `weights_only=True`. They are written beside the
old file and then renamed, so that a killed process leaves the old one."""

import zipfile
from contextlib import suppress
from pathlib import Path

import torch

from kws.audio.folders import sibling_path
from kws.errors import ModelError

FORMAT = 2


def save(checkpoint: dict, path: Path) -> None:
    """Writes atomically. Raises ModelError where the disk is full or the folder cannot be
    written."""
    partial = sibling_path(path, ".partial.pt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"format": FORMAT, **checkpoint}, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise ModelError(
            f"{path}: cannot be written ({error}). "
            "Free some space or choose another place with --out."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def load(path: Path) -> dict:
    """Raises ModelError for a missing, damaged or foreign file."""
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint.")
    try:
        checkpoint = (
            torch.load(path, map_location="cpu", weights_only=True)
            if zipfile.is_zipfile(path)
            else None
        )
    except Exception as error:  # torch has no common base for what it raises on a damaged file
        raise ModelError(f"{path}: not a checkpoint of kws, or a damaged one.") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise ModelError(f"{path}: not a checkpoint this kws can read (format {FORMAT}).")
    return checkpoint
