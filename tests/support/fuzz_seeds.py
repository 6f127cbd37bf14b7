"""Writes small model files for `native/tests/fuzz.c` to start from: every kind of layer and of
weights, with and without a verifier.

    python tests/support/fuzz_seeds.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from factories import make_network

from kws.runtime.tensors import pack_tensors
from kws.runtime.verifier import Fusion
from kws.runtime.weights import store_weights
from kws.training.model.tensors import network_tensors, verifier_tensors

TINY = {"mels": 9, "channels": 4, "window_samples": 240}
BANDS = {"band_channels": 2}
# Behind each file: lengths of pieces, and that its checksum is made anew.
PIECES = np.array([0, 1, 319, 320, 2000, 5, 1280, 640], "<u2").tobytes() + b"\1"


def write_seeds(folder: Path) -> None:
    """Files seed-0, seed-1, ..."""
    plain = network_tensors(make_network(**TINY))
    every = network_tensors(make_network(2, phones="_ab", pooling="power", **BANDS, **TINY))
    fusion = Fusion(scale=3.0, ceiling=-1.0, floor=-9.0)
    one = verifier_tensors(make_network(3, **BANDS, **TINY), [[[1, 2]]], fusion)
    two = verifier_tensors(make_network(4, **TINY), [[[1, 2, 2], [3]], []], fusion)
    with_int8 = dict(store_weights(plain, "int8"))
    with_float16 = dict(store_weights(every | two, "float16"))
    seeds = [plain, every, plain | one, every | two, with_int8, with_float16]
    folder.mkdir(parents=True, exist_ok=True)
    for number, tensors in enumerate(seeds):
        data = pack_tensors(tensors, {"kws": "{}"}) + PIECES
        (folder / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
