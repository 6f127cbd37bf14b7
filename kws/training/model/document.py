"""Copies of a model file with another document."""

import json
from pathlib import Path

import onnx

from kws.files import write_atomically
from kws.runtime.model_file import METADATA_KEY


def copy_with_document(source: Path, document: dict, out: Path) -> None:
    """Copies a model file with another document, and the checkpoint beside it, if there is one.
    `source` and `out` may be the same file. Raises KwsError."""
    model = onnx.load(source)
    metadata = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, {**metadata, METADATA_KEY: json.dumps(document)})
    write_atomically(out, model.SerializeToString())
    checkpoint, new_checkpoint = source.with_suffix(".pt"), out.with_suffix(".pt")
    if checkpoint.is_file() and checkpoint.resolve() != new_checkpoint.resolve():
        write_atomically(new_checkpoint, checkpoint.read_bytes())
