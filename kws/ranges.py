"""Numbers that options take."""

import math
from typing import Any

import click


class Range(click.FloatRange):
    """A number within bounds, which NaN is not: no comparison tells it from one."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        return (
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
            if math.isnan(number)
            else number
        )
