"""`kws export`: a model for other programs, or with smaller weights."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from kws.cli import options
from kws.terminal.types import FILE

if TYPE_CHECKING:
    from kws.runtime.model_file import ModelFile


@click.command(
    epilog="Exit status: 0 done, 1 the model cannot be read or the file cannot be written, "
    "2 wrong usage, " + options.STOPPED + "."
)
@click.argument("model")
@click.option(
    "--onnx",
    type=FILE,
    metavar="ONNX",
    help="ONNX file to write: the networks and the description of the model.",
)
@click.option(
    "--weights",
    type=(click.Choice(["float16", "int8"]), FILE),
    metavar="TYPE KWS",
    help="Type of the weights, float16 or int8, and model file to write.",
)
def export(
    model: str, onnx: Path | None, weights: tuple[Literal["float16", "int8"], Path] | None
) -> None:
    """Write a model as ONNX, or with smaller weights.

    Other programs run ONNX. Smaller weights make a smaller model file, whose scores differ a
    little. The model itself stays as it is.

    \b
    kws export welcome --onnx welcome.onnx
    kws export welcome --weights int8 models/welcome-int8.kws
    """
    if onnx is None and weights is None:
        raise click.UsageError("nothing to write. Give --onnx ONNX, or --weights TYPE KWS.")
    from kws.runtime.model_file import SUFFIX, find_model, read_model

    model_file = read_model(find_model(model))
    if onnx is not None:
        _check_out(onnx, ".onnx", model_file, "--onnx")
    if weights is not None:
        _check_out(weights[1], SUFFIX, model_file, "--weights")
        _write_weights(model_file, *weights)
    if onnx is not None:
        _write_onnx(model_file, onnx)


def _check_out(out: Path, suffix: str, model_file: "ModelFile", option: str) -> None:
    """Raises KwsError for a file that cannot be written, or is the model itself."""
    from kws.errors import DataError
    from kws.files import check_writable

    if out.suffix != suffix:
        raise DataError(f"{out}: a file for {option} is named NAME{suffix}.")
    check_writable(out)
    if out.exists() and out.samefile(model_file.info.path):
        raise DataError(f"{out}: is the model itself. Write another file with {option}.")


def _write_weights(
    model_file: "ModelFile", weight_type: Literal["float16", "int8"], path: Path
) -> None:
    from kws.files import write_atomically
    from kws.runtime.comparison import largest_difference, make_noise, scores_of_file
    from kws.runtime.model_file import parse_model
    from kws.runtime.weights import pack_with_weights

    data = pack_with_weights(model_file, weight_type)
    audio = make_noise(model_file.info.frame_samples)
    before, after = (scores_of_file(each, audio) for each in (model_file, parse_model(data, path)))
    difference = largest_difference(before, after)
    write_atomically(path, data)
    _write_line(
        f"{path}: {_format_size(path)}. Its scores differ by up to {difference:.4f} on noise; "
        "its thresholds were calibrated for float32 weights."
    )


def _write_onnx(model_file: "ModelFile", path: Path) -> None:
    with options.training_imports():
        from kws.training.model.onnx_export import export_onnx
    export_onnx(model_file, path)
    _write_line(f"{path}: {_format_size(path)}, gives the scores of {model_file.info.path}")


def _format_size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def _write_line(line: str) -> None:
    from kws.terminal.printers import write_line
    from kws.terminal.stdio import escape_control_chars

    write_line(sys.stdout, escape_control_chars(line), "the result")
