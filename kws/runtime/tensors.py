"""Tensors and a JSON document in one file: safetensors, read and written without a library.

The format is eight bytes with the length of a JSON header, the header, and the data. The header
gives type, shape and place of each tensor, and under `__metadata__` strings by name.
https://huggingface.co/docs/safetensors

The last tensor, `checksum`, lies at the end of the file: the CRC-32 of all bytes before it.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import ModelError

CHECKSUM = "checksum"
_TYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "I32": np.int32}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_ALIGNMENT = 64


def pack_tensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file with these tensors (float32, float16, int8, int32) and their checksum."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    tensors = {**tensors, CHECKSUM: np.zeros(1, np.int32)}
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    parts = [np.ascontiguousarray(tensor).tobytes() for tensor in tensors.values()]
    data = struct.pack("<Q", len(text)) + text + b"".join(parts[:-1])
    return data + struct.pack("<I", zlib.crc32(data))


def unpack_metadata(data: bytes, path: Path) -> dict[str, str]:
    """The strings in a file's header. Raises ModelError for one that is damaged or no safetensors
    file."""
    header = _header(data, path).get("__metadata__", {})
    if not isinstance(header, dict) or not all(isinstance(v, str) for v in header.values()):
        raise _damaged(path)
    return header


def unpack_tensors(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file but its checksum, as views of its bytes. Raises ModelError for one that
    is damaged."""
    header = _header(data, path)
    if CHECKSUM not in header or struct.pack("<I", zlib.crc32(memoryview(data)[:-4])) != data[-4:]:
        raise _damaged(path)
    body = memoryview(data)[8 + _header_bytes(data) :]
    tensors = {}
    try:
        for name, entry in header.items():
            if name not in ("__metadata__", CHECKSUM):
                begin, end = entry["data_offsets"]
                kind, shape = _TYPES[entry["dtype"]], entry["shape"]
                tensors[name] = np.frombuffer(body[begin:end], kind).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    return tensors


def _header_bytes(data: bytes) -> int:
    return int(struct.unpack_from("<Q", data)[0]) if len(data) >= 8 else len(data)


def _header(data: bytes, path: Path) -> dict[str, Any]:
    size = _header_bytes(data)
    try:
        header = json.loads(data[8 : 8 + size]) if size <= len(data) - 8 else None
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(header, dict):
        raise _damaged(path)
    return header


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path}: not a model file of kws, or a damaged one. Copy or train it again.")
