"""What `kws doctor` says is so: here, and where something is missing, broken, or ends its child."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from factories import make_model, make_network

from kws.doctor import checks, examine, sample_files
from kws.synth.engines import registry

REPOSITORY = Path(__file__).resolve().parents[2]
STATUSES = (checks.WORKS, checks.MISSING, checks.BROKEN, checks.UNTRIED)
KEYS = ["section", "name", "needed", "status", "detail", "remedy"]
NO_AV = "raise ModuleNotFoundError(\"No module named 'av'\", name='av')"


@dataclass(frozen=True)
class Report:
    """Exit status, and what came of each check by its section and name."""

    status: int
    works: bool
    checks: dict[tuple[str, str], dict]

    def told(self, section: str, name: str) -> tuple[str, str, str]:
        check = self.checks[section, name]
        return check["status"], check["detail"], check["remedy"]


Ask = Callable[..., Report]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Runs the command in an empty folder, with modules of these texts in place of packages."""

    def run(**modules: str) -> Report:
        done = start(tmp_path, modules, "doctor", "--json")
        assert done.stderr == ""
        told = json.loads(done.stdout)
        by_name = {(check["section"], check["name"]): check for check in told["checks"]}
        return Report(done.returncode, told["works"], by_name)

    return run


def start(folder: Path, modules: dict[str, str], *line: str) -> subprocess.CompletedProcess:
    packages, work = folder / "packages", folder / "work"
    for each in (packages, work):
        each.mkdir(exist_ok=True)
    for name, text in modules.items():
        (packages / f"{name}.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(packages), str(REPOSITORY)])}
    command = [sys.executable, REPOSITORY / "cli.py", *line]
    pipes = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, cwd=work, env=environment, timeout=300, **pipes)


def answers(section: str, folder: Path, *packages: Path) -> list[dict]:
    """What the checks of one section say in this folder, with what lies in `packages`."""
    command = [
        sys.executable,
        "-c",
        f"from kws.doctor.examine import answer; answer({section!r}, 0)",
    ]
    path = os.pathsep.join(map(str, packages or (REPOSITORY,)))
    pipes = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, **pipes)
    return [json.loads(line) for line in done.stdout.splitlines()]


# Here, where all that is needed is installed


def test_all_that_is_needed_works_here(ask: Ask) -> None:
    report = ask()
    assert (report.status, report.works) == (0, True)
    needed = {key for key, check in report.checks.items() if check["needed"]}
    assert {report.checks[key]["status"] for key in needed} == {"works"}
    assert {("packages", name) for name in ("kws", *checks.REQUIRED)} < needed
    assert {("formats", name) for name in checks.NEEDED_FORMATS} < needed
    assert ("models", "shipped") in needed
    for check in report.checks.values():
        assert list(check) == KEYS
        assert check["status"] in STATUSES
        assert check["detail"] and not (check["remedy"] and check["status"] == "works")
    assert report.told("packages", "numpy") == ("works", np.__version__, "")
    assert soundfile.__libsndfile_version__ in report.told("packages", "soundfile")[1]
    assert report.told("training", "torch")[0] == "works"
    assert report.told("models", "shipped")[1].startswith("welcome from 0.731")


def test_the_text_says_what_was_tried_section_by_section(tmp_path: Path) -> None:
    done = start(tmp_path, {}, "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.splitlines()
    assert [row for row in rows if not row.startswith(" ")] == [*checks.SECTIONS, "kws works here"]
    probes = [probe for section in checks.SECTIONS for probe in checks.probes_of(section)]
    told = [row for row in rows if row.startswith(" ")]
    assert len(told) == len(probes)
    for row, probe in zip(told, probes, strict=True):
        status = next(each for each in STATUSES if row.startswith(f"  {each} "))
        assert row.removeprefix(f"  {status}").strip().startswith(probe.name)


def test_a_line_ends_with_what_brings_it() -> None:
    missing = checks.Check(
        "packages", "av", False, checks.MISSING, "not installed", "pip install av"
    )
    broken = checks.Check("packages", "soxr", True, checks.BROKEN, "OSError: no", "")
    assert examine.lines([missing, broken]).splitlines() == [
        "packages",
        "  missing    av    not installed  → pip install av",
        "  broken     soxr  OSError: no",
    ]
    assert examine.summary([missing, broken]) == "kws does not work here: soxr"
    assert examine.summary([missing]) == "kws works here"


def test_nowhere_to_write_is_one_line(tmp_path: Path) -> None:
    command = f"exec {sys.executable} {REPOSITORY / 'cli.py'} doctor >&-"
    pipes = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, **pipes)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write") and done.stderr.count("\n") == 1


def test_every_engine_and_format_has_its_check() -> None:
    assert list(registry.ENGINES) == [*checks.ENGINES]
    formats = [each.name for each in sample_files.FORMATS]
    assert formats == [*checks.NEEDED_FORMATS, *checks.PYAV_FORMATS]


# Packages


def test_a_needed_package_that_does_not_load(ask: Ask) -> None:
    report = ask(soxr="raise OSError('libsoxr.so: cannot open')")
    assert (report.status, report.works) == (1, False)
    told = ("broken", "OSError: libsoxr.so: cannot open", "pip install --force-reinstall soxr")
    assert report.told("packages", "soxr") == told
    assert report.told("packages", "onnxruntime")[0] == "works"
    assert report.told("packages", "miniaudio")[0] == "works"
    assert report.told("formats", "WAV")[0] == "broken"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('two\\nlines')", "ImportError: two lines"),
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("print('{}', flush=True); raise OSError", "OSError:"),
    ],
    ids=["import", "of another", "exit", "talks"],
)
def test_whatever_a_package_raises_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "soxr.py").write_text(text)
    told = {check["name"]: check for check in answers("packages", tmp_path, tmp_path, REPOSITORY)}
    assert (told["soxr"]["status"], told["soxr"]["detail"]) == ("broken", reason)
    assert told["click"]["status"] == "works"


def test_a_package_that_ends_its_process(ask: Ask) -> None:
    report = ask(tqdm="import os; os.kill(os.getpid(), 11)")
    assert (report.status, report.works) == (1, False)
    assert report.told("packages", "tqdm")[:2] == ("broken", "ended its process (SIGSEGV)")
    assert report.told("packages", "click")[0] == "works"
    assert report.told("packages", "av")[0] != "broken"  # it is tried after that


def test_a_needed_package_that_is_not_there(ask: Ask) -> None:
    report = ask(tqdm="raise ModuleNotFoundError('no tqdm', name='tqdm')")
    assert report.status == 1
    assert report.told("packages", "tqdm") == ("missing", "not installed", "pip install tqdm")


def test_optional_packages_do_not_matter(ask: Ask) -> None:
    report = ask(torch="raise OSError('libcudart.so: cannot open')", av=NO_AV)
    assert (report.status, report.works) == (0, True)
    status, detail, remedy = report.told("training", "torch")
    assert (status, detail) == (
        "broken",
        "OSError: libcudart.so: cannot open",
    ) and ".[train]" in remedy
    assert report.told("training", "gpu")[:2] == ("missing", "needs torch")
    assert report.told("packages", "av")[::2] == ("missing", "pip install av")
    for name in checks.PYAV_FORMATS:
        assert report.told("formats", name) == ("missing", "needs PyAV", "pip install av")


def test_without_numpy_every_section_still_answers(ask: Ask) -> None:
    report = ask(numpy="raise ImportError('no numbers')")
    assert report.status == 1
    assert {section for section, _ in report.checks} == set(checks.SECTIONS)
    assert report.told("packages", "numpy")[:2] == ("broken", "ImportError: no numbers")


@pytest.mark.parametrize(
    ("command", "reason"),
    [("exec sleep 600", "no answer within 1 s"), ("exit 3", r"ended its process \(status 3\)")],
)
def test_what_does_not_answer_is_cut_off(command: str, reason: str) -> None:
    child = subprocess.Popen(["sh", "-c", f"{command}"], stdout=subprocess.PIPE)
    with child, pytest.raises(examine._NoAnswerError, match=reason):
        examine._line_within(child, 1.0)
    assert child.returncode != 0


# Formats


def test_what_is_heard_must_be_what_was_written() -> None:
    seconds = np.arange(16_000) / 16_000
    tone = sample_files.LEVEL * np.sin(2 * np.pi * sample_files.PITCH_HERTZ * seconds)
    assert checks._tone_in(tone).startswith("1.00 s of 440 Hz")
    for wrong in (tone[:8_000], np.tile(tone, 2), tone[::2].repeat(2)[:8_000], tone / 4, 0 * tone):
        with pytest.raises(checks.Problem, match="written"):
            checks._tone_in(wrong)
    with pytest.raises(checks.Problem, match="880 Hz"):
        checks._tone_in(sample_files.LEVEL * np.sin(2 * np.pi * 880 * seconds))


# Models


def test_models_of_this_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    good = make_model(tmp_path / "models", make_network(2), "good")
    bad = tmp_path / "models" / "bad.onnx"
    bad.write_bytes(good.read_bytes()[:-100])
    shipped, damaged, whole = answers("models", tmp_path)
    assert (shipped["name"], shipped["status"]) == ("shipped", "works")
    assert (damaged["name"], damaged["status"], damaged["needed"]) == (
        "models/bad.onnx",
        "broken",
        False,
    )
    assert "damaged one. Copy or train it again" in damaged["detail"]
    assert (whole["status"], whole["detail"]) == ("works", "word0 from 0.5, word1 from 0.5")


def test_a_damaged_model_of_this_folder_is_no_failure(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "work" / "models").mkdir(parents=True)
    (tmp_path / "work" / "models" / "mine.onnx").write_bytes(b"garbage")
    report = ask()
    assert (report.status, report.works) == (0, True)
    assert report.told("models", "models/mine.onnx")[0] == "broken"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A kws of its own, to be broken."""
    shutil.copytree(REPOSITORY / "kws", tmp_path / "clone" / "kws")
    (tmp_path / "clone" / "models").mkdir()
    for name in ("welcome.onnx", "welcome.flac"):
        shutil.copy(REPOSITORY / "models" / name, tmp_path / "clone" / "models")
    return tmp_path / "clone"


def gone(model: Path) -> None:
    model.unlink()


def cut_off(model: Path) -> None:
    os.truncate(model, 50_000)


def another(model: Path) -> None:
    shutil.copy(make_model(model.parent, make_network()), model)


def with_silence(model: Path) -> None:
    soundfile.write(model.with_suffix(".flac"), np.zeros(16_000), 16_000)


@pytest.mark.parametrize(
    ("breaks", "status", "detail"),
    [
        (gone, "missing", "welcome.onnx is not where kws is installed"),
        (cut_off, "broken", "a damaged one"),
        (another, "broken", "does not hear its word"),
        (with_silence, "broken", "does not hear its word"),
    ],
)
def test_the_shipped_model_must_hear_its_word(copied, tmp_path, breaks, status, detail):
    assert [check["status"] for check in answers("models", tmp_path, copied)] == ["works"]
    breaks(copied / "models" / "welcome.onnx")
    check = answers("models", tmp_path, copied)[0]
    assert (check["status"], check["needed"]) == (status, True)
    assert detail in check["detail"]
    assert checks.Check(**check).fails
