"""Model files whose weights take less room: as float16, or as int8 with a step for each row."""

import json
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from kws.runtime.model_file import METADATA_KEY, ModelFile
from kws.runtime.tensors import STEP, pack_tensors

WeightType = Literal["float16", "int8"]
_LARGEST = 127  # of int8, on both sides of zero


def pack_with_weights(model_file: ModelFile, weight_type: WeightType) -> bytes:
    """The bytes of a model file whose matrices are of this type, as its document says under
    `weights`.

    Filters over time and over bands are at least float16: they are small, and the scores depend on
    them most. Biases, scalars and the front end stay float32.
    """
    tensors = dict(store_weights(model_file.tensors, weight_type))
    document = {**model_file.info.document, "weights": weight_type}
    # The widest numbers come first, so that all lie at multiples of their size.
    widest_first = dict(sorted(tensors.items(), key=lambda each: -each[1].itemsize))
    return pack_tensors(widest_first, {METADATA_KEY: json.dumps(document)})


def store_weights(
    tensors: Mapping[str, np.ndarray], weight_type: WeightType
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors under their names, matrices with this type, and steps beside those of int8."""
    for name, tensor in tensors.items():
        if not name.endswith(".weight"):
            yield name, tensor
        elif weight_type == "float16" or _is_filter(name):
            yield name, tensor.astype(np.float16)
        else:
            steps = _steps_of_rows(tensor)
            yield name, np.round(tensor / _for_rows(steps, tensor)).astype(np.int8)
            yield name + STEP, steps


def _is_filter(name: str) -> bool:
    return ".depthwise." in name or ".bands." in name


def _steps_of_rows(tensor: np.ndarray) -> np.ndarray:
    """For each row the step with which its largest number becomes 127."""
    largest = np.abs(tensor).reshape(len(tensor), -1).max(axis=1)
    return np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)


def _for_rows(values: np.ndarray, tensor: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (tensor.ndim - 1))
