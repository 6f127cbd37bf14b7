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
from typing import Any, NamedTuple

import numpy as np

from kws.errors import ModelError

CHECKSUM = "checksum"
STEP = ".step"
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


class TensorFile(NamedTuple):
    """The content of a file: strings and tensors by name, and the checksum, which is no tensor
    here. The tensors are views of the file's bytes."""

    metadata: dict[str, str]
    tensors: dict[str, np.ndarray]
    checksum: int


def unpack_tensors(data: bytes, path: Path) -> TensorFile:
    """The content of a file's bytes. Raises ModelError for one that is damaged or no such file."""
    header = _header(data, path)
    metadata = header.pop("__metadata__", {})
    checksum = zlib.crc32(memoryview(data)[:-4])
    is_sound = CHECKSUM in header and struct.pack("<I", checksum) == data[-4:]
    if not is_sound or not _holds_strings(metadata):
        raise _damaged(path)
    del header[CHECKSUM]
    body = memoryview(data)[8 + _header_bytes(data) :]
    tensors = {}
    try:
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            kind, shape = _TYPES[entry["dtype"]], entry["shape"]
            tensors[name] = np.frombuffer(body[begin:end], kind).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _damaged(path) from error
    return TensorFile(metadata, tensors, checksum)


def float_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors with float32 for float16 and int8: the latter times the step of their row, which
    the tensor `NAME.step` holds. Raises KeyError where that is missing, ValueError where it does
    not fit."""
    return {
        name: _as_float(tensor, name, tensors)
        for name, tensor in tensors.items()
        if not name.endswith(STEP)
    }


def _as_float(tensor: np.ndarray, name: str, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    if tensor.dtype == np.int8:
        steps = tensors[name + STEP]
        if steps.shape != tensor.shape[:1]:
            raise ValueError(f"tensor {name + STEP} does not fit")
        rows: np.ndarray = tensor * steps.reshape(-1, *[1] * (tensor.ndim - 1))
        return rows
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor


def _holds_strings(metadata: object) -> bool:
    return isinstance(metadata, dict) and all(isinstance(each, str) for each in metadata.values())


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
