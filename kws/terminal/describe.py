"""The document of a model file as text: all of its sections, in their order."""

from collections.abc import Iterator, Mapping, Sequence

from kws.runtime.model_file import ModelInfo
from kws.terminal.stdio import escape_control_chars


def describe(info: ModelInfo) -> str:
    """The whole document of a model file as indented lines and tables."""
    about = {"file": str(info.path), "file_bytes": info.path.stat().st_size}
    return "\n".join(_section(about | info.document, 0))


def _section(document: Mapping, indent: int) -> Iterator[str]:
    """Plain values first, in one aligned column; then mappings and tables."""
    scalars = {key: value for key, value in document.items() if not _has_parts(value)}
    width = max(map(len, scalars), default=0)
    for key, value in scalars.items():
        yield f"{' ' * indent}{_title(key):<{width}}  {_text(value)}"
    for key, value in document.items():
        if _has_parts(value):
            yield ""
            yield f"{' ' * indent}{_title(key)}"
            yield from (
                _section(value, indent + 2)
                if isinstance(value, Mapping)
                else _table(value, indent + 2)
            )


def _has_parts(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)
    )


def _title(key: str) -> str:
    return escape_control_chars(key.replace("_", " "))


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "-"
    return escape_control_chars(str(value))


def _cell(key: str, value: object) -> str:
    return (
        " – ".join(map(_text, value))
        if key.endswith("_interval") and isinstance(value, list) and value
        else _text(value)
    )


def _table(rows: Sequence[Mapping], indent: int) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_title(key) for key in columns]] + [
        [_cell(key, row.get(key)) for key in columns] for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in columns]
    for line in cells:
        padded = (
            cell.rjust(width) if is_numeric else cell.ljust(width)
            for cell, width, is_numeric in zip(line, widths, numeric, strict=True)
        )
        yield f"{' ' * indent}{'  '.join(padded)}".rstrip()
