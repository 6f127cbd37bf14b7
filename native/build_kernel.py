"""Compiles the kernel to a shared library, with the system's compiler or, where there is none, with
the one that the package ziglang carries.

    python native/build_kernel.py OUTPUT

The library is plain C: it has nothing of Python in it, and one file serves all versions of Python.
"""

import importlib.util
import shlex
import shutil
import subprocess
import sys
from os import environ
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
# -ffp-contract=fast: multiply and add in one instruction where there is one.
FLAGS = [
    "-std=c11",
    "-O3",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-Wno-psabi",
    "-shared",
    "-s",
]


def find_compiler() -> list[str] | None:
    """The command of a C compiler: $CC, cc, gcc or clang, else that of ziglang; None without any.
    Visual C++ is none, as it lacks the vector extension."""
    if environ.get("CC"):
        return shlex.split(environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
    return None


def build(output: Path) -> None:
    """Raises RuntimeError without a compiler, CalledProcessError where it fails."""
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("no C compiler: install one, or `pip install ziglang`")
    output.parent.mkdir(parents=True, exist_ok=True)
    platform_flags = [] if sys.platform == "win32" else ["-fPIC"]
    subprocess.run(
        [*compiler, *FLAGS, *platform_flags, *map(str, SOURCES), "-o", str(output), "-lm"],
        check=True,
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
