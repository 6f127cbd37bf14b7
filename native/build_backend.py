"""The build backend: setuptools, with ziglang where the machine has no C compiler (PEP 517)."""

from typing import Any

from build_kernel import find_compiler
from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 - hooks
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)


def _compiler() -> list[str]:
    return [] if find_compiler() else ["ziglang>=0.13"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler()]
