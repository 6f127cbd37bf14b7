"""The two wings stay apart, and modules depend on those before them only.

A new module needs a place in the list of its wing below: after all that it imports, before all that
import it. The rooms that the wings are made of stand in pyproject.toml, for `lint-imports`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "torchaudio", "librosa", "onnx", "matplotlib")

# From the foundations up; the training wing stands on the runtime, and only functions of the
# runtime may reach back to it.
RUNTIME = [
    *("errors", "addresses", "signatures", "folders"),
    *("decoders.base", "decoders.files", "decoders.headers", "decoders.signatures", "decoders.ogg"),
    *("decoders.sndfile", "decoders.media", "decoders.mp3", "decoders", "channels"),
    *("audio", "events", "reader", "modelfile", "engine", "spotter"),  # the library
    # What the command line needs besides.
    *("standard", "microphone", "describe", "output", "plot", "terminal", "ranges", "paths"),
    *("interrupts", "detecting", "streaming", "recording"),
]
TRAINING = [
    *("layers", "processes", "norm", "pooling", "depthwise", "past", "bands", "network", "cost"),
    *("clips", "part", "silence", "splits", "protocols", "download"),
    *(
        "mixing",
        "utterances",
        "augment",
        "loss",
        "made",
        "checkpoint",
        "memory",
        "fit",
        "torch_engine",
        "trunk",
        "export",
    ),
    *(
        "trials",
        "intervals",
        "matching",
        "calibrate",
        "mining",
        "material",
        "session",
        "rounds",
        "spelling",
    ),
    *("reading", "lexicon"),
    *("strangers", "classes", "classifying", "accuracy", "sorting"),
    *(
        "streams",
        "hearing",
        "evaluation",
        "summary",
        "chart",
        "specimen",
        "look",
        "page",
        "evaluating",
        "calibrating",
        "command",
        "cli",
    ),
]
SYNTH = [
    *(
        "sound",
        "engine",
        "phonemes",
        "kokoro",
        "piper",
        "hibari",
        "pico",
        "espeak",
        "flite",
        "festival",
        "engines",
    ),
    *("dictionary", "phrase", "neighbours", "plan", "speaking", "command", "cli"),
]
WINGS = {"kws": RUNTIME, "kws.synth": SYNTH, "kws.training": TRAINING}
# Of the runtime, but it tries the other wings, too.
DOCTOR = ["kws.encoding", "kws.checks", "kws.doctor"]
ORDER = [
    *(
        module
        for wing, names in WINGS.items()
        for module in (*(f"{wing}.{name}" for name in names), wing)
    ),
    *DOCTOR,
    "cli",
    "kws.__main__",
]


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    at_import_time: bool  # not inside a function, nor for type checkers alone


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in sorted([*ROOT.glob("kws/**/*.py"), *ROOT.glob("cli.py")])}
RUNTIME_FILES = {name: path for name, path in FILES.items() if not name.startswith("kws.training")}


def imports_of(path: Path) -> list[Import]:
    return list(_imports(ast.parse(path.read_text(encoding="utf-8")).body, at_import_time=True))


def _imports(nodes: list[ast.AST], *, at_import_time: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_import_time) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: name the whole module in an import"
            yield from (
                Import(_imported(node.module, alias.name), node.lineno, at_import_time)
                for alias in node.names
            )
        else:
            later = isinstance(
                node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
            ) or _for_type_checkers(node)
            yield from _imports(
                list(ast.iter_child_nodes(node)), at_import_time=at_import_time and not later
            )


def _imported(module: str, name: str) -> str:
    """`from kws import audio` imports the module kws.audio, `from kws.errors import KwsError`
    only kws.errors."""
    return f"{module}.{name}" if f"{module}.{name}" in FILES else module


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_the_scan_sees_what_it_should():
    assert {"kws", "kws.events", "kws.spotter", "kws.training", "kws.training.network"} <= set(
        FILES
    )
    assert Import("torch", 2, True) in imports_of_text("class A:\n    import torch")
    assert Import("torch", 2, False) in imports_of_text("def f():\n    import torch")
    assert Import("torch.nn", 2, True) in imports_of_text(
        "try:\n    from torch.nn import Module\nexcept ImportError: pass"
    )
    assert Import("torch", 2, False) in imports_of_text("if TYPE_CHECKING:\n    import torch")
    assert Import("kws.events", 1, True) in imports_of_text("from kws import events")


def imports_of_text(text: str) -> list[Import]:
    return list(_imports(ast.parse(text).body, at_import_time=True))


@pytest.mark.parametrize("name", RUNTIME_FILES)
def test_runtime_imports_nothing_heavy(name):
    for each in imports_of(FILES[name]):
        if each.at_import_time:
            assert not is_in(each.module, HEAVY), (
                f"{name}, line {each.line}: import {each.module} inside the function that needs it"
            )
            assert each.module == "kws.training.cli" or not is_in(each.module, ("kws.training",)), (
                f"{name}, line {each.line}: the runtime reaches training only inside functions"
            )


@pytest.mark.parametrize("name", FILES)
def test_every_module_has_a_place_in_the_order(name):
    assert name in ORDER, (
        f"{name} is new: give it a place in RUNTIME or TRAINING in {Path(__file__).name}, after "
        "all that it imports"
    )


@pytest.mark.parametrize("name", FILES)
def test_imports_point_backwards(name):
    place = {module: i for i, module in enumerate(ORDER)}
    for each in imports_of(FILES[name]):
        # A function of the runtime that calls training.
        across = name in RUNTIME_FILES and is_in(each.module, ("kws.training",))
        if (
            is_in(each.module, ("kws", "cli"))
            and not across
            and name in place
            and each.module in place
        ):
            assert place[each.module] < place[name], (
                f"{name}, line {each.line}: imports {each.module}, which stands after it"
            )


@pytest.mark.parametrize("wing", WINGS)
def test_the_map_of_a_wing_names_its_modules(wing):
    """The docstring of a package tells a newcomer what is in it."""
    named = ast.get_docstring(ast.parse(FILES[wing].read_text(encoding="utf-8")))
    for name in FILES:
        if name.startswith(f"{wing}.") and name.count(".") == wing.count(".") + 1:
            place = name.removeprefix(f"{wing}.")
            assert f"`{place}`" in named or f"`{name}`" in named, (
                f"{name} is new: say in {wing}/__init__.py where it belongs"
            )


def test_only_the_command_line_knows_the_command_line():
    for name, path in FILES.items():
        if name not in (
            "cli",
            "kws.__main__",
            "kws.paths",
            "kws.ranges",
            "kws.synth.cli",
            "kws.training.cli",
        ):
            assert not [
                each for each in imports_of(path) if is_in(each.module, ("cli", "click"))
            ], name


@pytest.mark.parametrize(
    "module", ["kws", "cli", *(name for name in RUNTIME_FILES if name != "kws")]
)
def test_importing_the_runtime_loads_nothing_heavy(module):
    loaded = modules_after(f"import {module}")
    assert not loaded & {*HEAVY, "numba", "scipy", "sklearn", "kws.training.fit"}


def test_the_version_is_read_when_it_is_asked_for():
    assert "importlib.metadata" not in modules_after("import kws") - modules_after("pass")
    assert "importlib.metadata" in modules_after("import kws; kws.__version__")


def test_subprocess_check_would_notice():
    assert "onnx" in modules_after("import onnx")


def modules_after(statement: str) -> set[str]:
    """Modules that a fresh interpreter holds after a statement."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())
