"""Compiles the kernel to a shared library, with the system's compiler or, where none works, with
the one that the package ziglang carries.

    python native/build_kernel.py OUTPUT

The library is plain C: it has nothing of Python in it, and one file serves all versions of Python.
"""

import importlib.util
import shlex
import subprocess
import sys
from os import environ
from pathlib import Path
from tempfile import TemporaryDirectory

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
PLATFORM_FLAGS = [] if sys.platform == "win32" else ["-fPIC"]
ZIG = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
PROBE = "#include <math.h>\ntypedef float vector __attribute__((vector_size(32)));\n"


def find_compiler() -> list[str] | None:
    """The command of the first that works: $CC, cc, gcc, clang, ziglang. None without any."""
    command = next(filter(_works, _system_compilers()), None)
    if command is None and importlib.util.find_spec("ziglang"):
        return ZIG
    return command


def _system_compilers() -> list[list[str]]:
    if environ.get("CC"):
        return [shlex.split(environ["CC"])]
    # GCC for Windows does not align its stack for vectors of AVX, and Visual C++ has no vectors.
    return [] if sys.platform == "win32" else [["cc"], ["gcc"], ["clang"]]


def _works(compiler: list[str]) -> bool:
    """Whether it makes a library: on a fresh machine it may be there without those of C."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE)
        try:
            _compile(compiler, [source], Path(folder, "probe.so"), stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


def build(output: Path) -> None:
    """Replaces `output` at once, as programs may be running it. Raises RuntimeError where there is
    no compiler, and where it fails, once it has said why on stderr."""
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("no C compiler works here: install one, or `pip install ziglang`")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent) as folder:
        library = Path(folder, output.name)
        try:
            _compile(compiler, SOURCES, library)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"{shlex.join(compiler)} does not compile the kernel") from error
        library.replace(output)


def _compile(
    compiler: list[str], sources: list[Path], output: Path, stderr: int | None = None
) -> None:
    """Raises OSError or CalledProcessError."""
    flags = [*FLAGS, *PLATFORM_FLAGS, *shlex.split(environ.get("ARCHFLAGS", ""))]
    command = [*compiler, *flags, *sources, "-o", output, "-lm"]
    zig_cache = {"ZIG_GLOBAL_CACHE_DIR": str(output.parent)}  # 50 MB that nobody else needs
    subprocess.run(command, check=True, stderr=stderr, env=zig_cache | environ)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except RuntimeError as error:
        sys.exit(f"{error}")
