"""What MkDocs builds from the project itself, so that nothing is kept twice: the command reference
from the commands, and the pages of CHANGELOG.md and CONTRIBUTING.md from these files."""

import inspect
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

COMMANDS = "<!-- commands -->"
ROOT_FILE = re.compile(r"<!-- root file: (\S+) -->")


def on_page_markdown(markdown: str, config: Any, **_: object) -> str:
    """The text of a page, with what stands in place of its marks."""
    if COMMANDS in markdown:
        return markdown.replace(COMMANDS, "\n".join(_reference(_kws(), None)))
    found = ROOT_FILE.search(markdown)
    return _root_file(Path(config.config_file_path).parent / found[1]) if found else markdown


def _root_file(path: Path) -> str:
    """A document of the root, with links that hold in the folder of the documents."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\(([A-Z]+)\.md\)", lambda found: f"]({found[1].lower()}.md)", text)


def _kws() -> click.Command:
    """The command that the installed package declares."""
    (entry,) = entry_points(group="console_scripts", name="kws")
    return entry.load()


def _reference(command: click.Command, parent: click.Context | None) -> Iterator[str]:
    """Lines of Markdown on a command, and after it on those below it."""
    context = click.Context(command, info_name=command.name, parent=parent)
    yield from [f"## {context.command_path}", "", *_text(command.help or ""), ""]
    yield from ["```text", command.get_usage(context), "```", ""]
    yield from _options(command, context)
    yield from [*_text(command.epilog or ""), ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _reference(command.get_command(context, name), context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [each for each in command.params if isinstance(each, click.Option)]
    records = [option.get_help_record(context) for option in options]
    if options:
        yield from ["| option | meaning |", "|---|---|"]
        yield from (f"| `{names}` | {_escaped(text)} |" for names, text in filter(None, records))
        yield ""


def _text(text: str) -> Iterator[str]:
    """A help text as Markdown: what click does not wrap, after a line with "\\b", is code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ["```sh", paragraph.removeprefix("\b\n"), "```", ""]
        else:
            yield from [_escaped(paragraph), ""]


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", text)
