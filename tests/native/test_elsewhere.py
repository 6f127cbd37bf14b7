"""The kernel on other processors, and by other compilers, gives the scores that it gives here:
`native/tests/vectors.c`, compiled for each."""

import subprocess
import sys
from dataclasses import dataclass
from os import environ
from pathlib import Path

import numpy as np
import pytest

from kws.audio.recordings import read
from kws.runtime.kernel import KernelModel
from kws.runtime.tensors import pack_tensors

ROOT = Path(__file__).parents[2]
SOURCES = [*sorted((ROOT / "native").glob("*.c")), ROOT / "native" / "tests" / "vectors.c"]
FLAGS = ["-std=c11", "-O3", "-ffp-contract=fast", "-Wno-psabi"]
ZIG = [sys.executable, "-m", "ziglang", "cc", "-target"]
RUN_WASI = ["node", "--no-warnings", str(Path(__file__).with_name("wasi.mjs"))]
PIECES = [["1280"], ["0", "1", "319", "320", "3000", "77"]]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Machine:
    name: str
    compiler: list[str]
    runner: list[str]
    needs: list[str]  # marks of what the test needs


MACHINES = [
    Machine("here", ["cc"], [], ["cc"]),
    Machine("clang", ["clang"], [], ["clang"]),
    # A processor of 2008, without AVX.
    Machine("baseline", ["cc"], ["qemu-x86_64", "-cpu", "Nehalem"], ["cc", "qemu"]),
    Machine("arm", [*ZIG, "aarch64-linux-musl"], ["qemu-aarch64"], ["zig", "qemu"]),
    # without vectors
    Machine("risc-v", [*ZIG, "riscv64-linux-musl"], ["qemu-riscv64"], ["zig", "qemu"]),
    Machine("wasm", [*ZIG, "wasm32-wasi"], RUN_WASI, ["zig", "node"]),
    Machine("wasm-simd", [*ZIG, "wasm32-wasi", "-msimd128"], RUN_WASI, ["zig", "node"]),
]


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(each, id=each.name, marks=[getattr(pytest.mark, mark) for mark in each.needs])
        for each in MACHINES
    ],
)
def test_scores_are_those_of_the_library(
    tmp_path: Path, library: Path, verified_tensors: dict[str, np.ndarray], machine: Machine
) -> None:
    data = pack_tensors(verified_tensors, {"kws": "{}"})
    samples = read(ROOT / "recordings" / "twice.wav")
    stream = KernelModel(data, Path("model.kws"), library=library).open_stream()
    output = stream.step(samples)
    expected = np.concatenate([array.ravel() for array in output[:4]])
    compile_vectors(machine, tmp_path / "vectors")
    (tmp_path / "model.kws").write_bytes(data)
    samples.tofile(tmp_path / "samples")
    outputs = [run_vectors(machine, tmp_path, pieces) for pieces in PIECES]
    assert (output.pooled > 0.5).any()
    np.testing.assert_allclose(outputs[0], expected, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(outputs[1], outputs[0])


def compile_vectors(machine: Machine, program: Path) -> None:
    subprocess.run(
        [*machine.compiler, *FLAGS, *SOURCES, "-lm", "-o", program],
        check=True,
        # with the tests' caches: ziglang compiles a C library for each target once
        env={"ZIG_GLOBAL_CACHE_DIR": str(ROOT / ".pytest_cache" / "zig")} | environ,
    )


def run_vectors(machine: Machine, folder: Path, pieces: list[str]) -> np.ndarray:
    """Everything that the program writes."""
    files = [folder / name for name in ("vectors", "model.kws", "samples", "output")]
    subprocess.run([*machine.runner, *files, *pieces], check=True, capture_output=True)
    return np.fromfile(folder / "output", np.float32)
