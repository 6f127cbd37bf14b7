"""Compiles the kernel into the package, and tags wheels by platform alone: the kernel has nothing
of Python in it. All else stands in pyproject.toml."""

import sys
from pathlib import Path

from build_kernel import SOURCES, build
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError


class BuildKernel(build_ext):
    """Where the kernel does not compile, setuptools warns and goes on: numpy runs in its place."""

    def get_ext_filename(self, fullname: str) -> str:
        suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
        return str(Path(*fullname.split("."))) + suffix

    def build_extension(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name))
        library.unlink(missing_ok=True)  # of an earlier build
        try:
            build(library)
        except RuntimeError as error:
            raise CompileError(f"{error}; kws runs in numpy, slowly") from error


class PlatformWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


sources = [f"native/{source.name}" for source in SOURCES]
setup(
    ext_modules=[Extension("kws.runtime._kernel", sources, optional=True)],
    cmdclass={"build_ext": BuildKernel, "bdist_wheel": PlatformWheel},
)
