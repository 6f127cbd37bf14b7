"""How the kernel is compiled, and packed into a wheel."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from kws.runtime.kernel import library_path, load_library

REPOSITORY = Path(__file__).resolve().parents[2]
NO_PACKAGES = ("-I", "-S")  # nor those of PYTHONPATH
PACKED = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "native", "kws")


def test_the_library_is_newer_than_its_sources() -> None:
    sources = [*(REPOSITORY / "native").glob("*.[ch]"), *(REPOSITORY / "native").glob("*.inc")]
    newest = max(source.stat().st_mtime for source in sources)
    library = library_path()
    assert library.is_file() and library.stat().st_mtime > newest, (
        f"compile it: python native/build_kernel.py {library}"
    )


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """What a wheel is made from, to be broken."""
    folder = tmp_path / "sources"
    ignored = shutil.ignore_patterns(library_path().name, "__pycache__")
    for name in PACKED:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=ignored)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(path, folder)
    (folder / "models").mkdir()
    return folder


def compile_kernel(
    sources: Path, library: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess:
    """options: of Python."""
    return subprocess.run(
        [sys.executable, *options, sources / "native" / "build_kernel.py", library],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def break_a_source(sources: Path) -> None:
    with (sources / "native" / "stream.c").open("a") as file:
        file.write("\n#error broken\n")


@pytest.mark.slow
@pytest.mark.cc
def test_the_compiler_of_the_system_makes_a_library(sources: Path, tmp_path: Path) -> None:
    done = compile_kernel(sources, tmp_path / "new" / "kernel.so")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kernel.so"]
    load_library(tmp_path / "new" / "kernel.so")


@pytest.mark.slow
@pytest.mark.zig
@pytest.mark.parametrize("compiler", ["", "no-such-program", "false"])
def test_zig_makes_it_where_no_other_works(sources: Path, tmp_path: Path, compiler: str) -> None:
    done = compile_kernel(sources, tmp_path / "kernel.so", PATH="", CC=compiler)
    assert done.returncode == 0, done.stderr
    load_library(tmp_path / "kernel.so")


def test_without_any_compiler_one_line_says_so(sources: Path, tmp_path: Path) -> None:
    done = compile_kernel(sources, tmp_path / "kernel.so", *NO_PACKAGES, PATH="")
    assert done.returncode == 1
    assert done.stderr == "no C compiler works here: install one, or `pip install ziglang`\n"
    assert not (tmp_path / "kernel.so").exists()


@pytest.mark.cc
def test_a_source_that_does_not_compile_leaves_the_library(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel.so").write_text("old")
    break_a_source(sources)
    done = compile_kernel(sources, tmp_path / "kernel.so")
    assert done.returncode == 1
    assert "#error broken" in done.stderr
    assert done.stderr.splitlines()[-1] == "cc does not compile the kernel"
    assert (tmp_path / "kernel.so").read_text() == "old"


def make_wheel(sources: Path) -> Path:
    options = ("-v", "--no-deps", "--no-build-isolation", "-w", sources.parent)
    line = [sys.executable, "-m", "pip", "wheel", *options, sources]
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    (sources.parent / "log").write_text(done.stdout)
    return next(sources.parent.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.cc
def test_a_wheel_carries_the_kernel_for_all_versions_of_python(sources: Path) -> None:
    wheel = make_wheel(sources)
    _, _, python, abi, platform = wheel.stem.split("-")
    assert (python, abi) == ("py3", "none") and platform != "any"
    assert f"kws/runtime/{library_path().name}" in ZipFile(wheel).namelist()


@pytest.mark.slow
def test_where_the_kernel_does_not_compile_the_wheel_goes_without(sources: Path) -> None:
    make_wheel(sources)  # which leaves a library in the folder `build`
    break_a_source(sources)
    names = ZipFile(make_wheel(sources)).namelist()
    assert "kws/runtime/kernel.py" in names
    assert not any("_kernel" in name for name in names)
    log = (sources.parent / "log").read_text()
    assert "does not compile the kernel; kws runs in numpy, slowly" in log
