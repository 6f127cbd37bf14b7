"""Types of options: paths, and numbers within bounds."""

import math
from pathlib import Path
from typing import Any

import click


class _Path(click.Path):
    """A path as it is spelled on the disk, whatever form of Unicode it is given in. URLs are
    refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from kws.audio.addresses import reject_url
        from kws.audio.folders import find_on_disk

        reject_url(value)
        path = find_on_disk(Path(value))
        super().convert(path, param, ctx)  # checks it
        return path


FILE = _Path(dir_okay=False, path_type=Path)
FOLDER = _Path(file_okay=False, path_type=Path)


class Range(click.FloatRange):
    """A number within bounds. NaN is refused: every comparison with it is false."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number
