"""Copies of a model file with another document."""

import json
from pathlib import Path

from kws.files import write_atomically
from kws.runtime.model_file import METADATA_KEY
from kws.runtime.tensors import pack_tensors, unpack_tensors


def copy_with_document(source: Path, document: dict, out: Path) -> None:
    """Copies a model file with another document, and the checkpoint beside it, if there is one.
    `source` and `out` may be the same file. Raises KwsError."""
    tensors = unpack_tensors(source.read_bytes(), source).tensors
    write_atomically(out, pack_tensors(tensors, {METADATA_KEY: json.dumps(document)}))
    checkpoint, new_checkpoint = source.with_suffix(".pt"), out.with_suffix(".pt")
    if checkpoint.is_file() and checkpoint.resolve() != new_checkpoint.resolve():
        write_atomically(new_checkpoint, checkpoint.read_bytes())
