"""README and the pages of docs do what they say: their commands run, what they print is what the
pages show, links lead somewhere.

A fenced block in bash or python runs, in a folder that holds `recordings/`, `native/` and
`models/welcome.kws`; those of one page run in their order in one folder. A block with a title is
written to a file of this name. `<!-- not run: why -->` above a block leaves it out. A text block
right after one that runs is what it prints: numbers may differ by ROUNDING, `...` stands for any
lines. In README and the tutorials, whose commands a newcomer types, no command is in another kind
of block.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
FOR_NEWCOMERS = [README, *sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))]
README_WORDS = 900
ROUNDING = 0.03
RUNS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
TITLE = re.compile(r'title="(.+)"')
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line where it begins, the line before it, and,
    where a block in text comes next, the text of that."""

    language: str
    text: str
    line: int
    above: str
    printed: str | None

    @property
    def file(self) -> str | None:
        """The file whose content it is."""
        title = TITLE.search(self.language)
        return title[1] if title else None

    @property
    def runs(self) -> bool:
        return self.language in RUNS and not NOT_RUN.fullmatch(self.above)


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    assert len(fences) % 2 == 0, "a block is not closed"
    spans = list(zip(fences[::2], fences[1::2], strict=True))
    for index, (first, last) in enumerate(spans):
        printed = None
        if index + 1 < len(spans):
            following, end = spans[index + 1]
            next_to_it = not "".join(lines[last + 1 : following]).strip()
            if next_to_it and lines[following] == "```text":
                printed = "\n".join(lines[following + 1 : end])
        yield Block(
            language=lines[first].strip().removeprefix("```"),
            text="\n".join(lines[first + 1 : last]),
            line=first + 1,
            above=lines[first - 1].strip() if first else "",
            printed=printed,
        )


def same_token(shown: str, printed: str) -> bool:
    if NUMBER.fullmatch(shown) and NUMBER.fullmatch(printed):
        return abs(float(shown) - float(printed)) <= ROUNDING
    return shown == printed


def same_line(shown: str, printed: str) -> bool:
    pairs = [re.split(r"[\s,:{}]+", line.strip()) for line in (shown, printed)]
    return len(pairs[0]) == len(pairs[1]) and all(map(same_token, *pairs))


def shows(shown: list[str], printed: list[str]) -> bool:
    """Whether the lines that a page shows are those that were printed."""
    if not shown:
        return not printed
    if shown[0].strip() == "...":
        return any(shows(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and same_line(shown[0], printed[0]) and shows(shown[1:], printed[1:])


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the recordings, the shipped model and the kernel, as a clone has them, beside
    one with the command."""
    for name in ("recordings/*.wav", "models/welcome.kws", "native/*.*"):
        for path in REPOSITORY.glob(name):
            place = tmp_path / "work" / path.relative_to(REPOSITORY)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    command = tmp_path / "bin" / "kws"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kws "$@"\n')
    command.chmod(0o755)
    return tmp_path / "work"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.cc] if "```c " in page.read_text() else [])
        for page in [README, *PAGES]
        if any(each.runs for each in blocks(page.read_text()))
    ],
    ids=name_of,
)
def test_what_a_page_says_runs_and_prints_what_it_shows(page: Path, workplace: Path) -> None:
    path = os.pathsep.join([str(workplace.parent / "bin"), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY)}
    every = list(blocks(page.read_text()))
    for block in every:
        if block.file:
            (workplace / block.file).write_text(block.text)
    for block in (each for each in every if each.runs):
        place = f"{name_of(page)}:{block.line}"
        ran = subprocess.run(
            [*RUNS[block.language], block.text],
            cwd=workplace,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 0, f"{place}\n{ran.stdout}{ran.stderr}"
        if block.printed is not None:
            matches = shows(block.printed.splitlines(), ran.stdout.splitlines())
            assert matches, f"{place} prints\n{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize("page", FOR_NEWCOMERS, ids=name_of)
def test_no_command_for_newcomers_escapes_the_test(page: Path) -> None:
    kinds = {each.language for each in blocks(page.read_text())}
    assert kinds <= {*RUNS, "text"}


def test_readme_is_short() -> None:
    assert len(README.read_text().split()) <= README_WORDS


@pytest.mark.parametrize("page", [README, REPOSITORY / "CONTRIBUTING.md", *PAGES], ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text())]
    local = [each for each in targets if each and not re.match(r"[a-z]+:", each)]
    missing = [each for each in local if not (page.parent / each).exists()]
    assert not missing


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a.wav  welcome  2.54  1.00", "a.wav welcome 2.53 0.99", True),
        ("a.wav  welcome  2.54  1.00", "a.wav welcome 2.64 1.00", False),
        ("a.wav  welcome  2.54  1.00", "b.wav welcome 2.54 1.00", False),
        ('{"start": 2.54}', '{"start": 2.55}', True),
        ("one\n...\nlast", "one\ntwo\nthree\nlast", True),
        ("one\n...\nlast", "one\ntwo", False),
        ("one", "one\ntwo", False),
        ("one\ntwo", "one", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, printed: str, same: bool) -> None:
    assert shows(shown.splitlines(), printed.splitlines()) is same


def test_a_remark_leaves_a_block_out() -> None:
    page = "<!-- not run: long -->\n```bash\nfalse\n```\n\n```bash\ntrue\n```\n\n```text\nyes\n```"
    long, short, _ = blocks(page)
    assert (long.runs, short.runs, short.printed) == (False, True, "yes")
