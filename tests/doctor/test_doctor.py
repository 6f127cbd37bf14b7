"""`kws doctor`: here, and where something is missing, broken, or ends its process."""

import _ctypes
import json
import os
import re
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
from kws.runtime.kernel import library_path
from kws.synth.engines import registry

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
STATUSES = (checks.WORKS, checks.MISSING, checks.BROKEN, checks.NOT_TRIED)
KEYS = ["section", "name", "needed", "status", "detail", "remedy"]
NO_AV = "raise ModuleNotFoundError(\"No module named 'av'\", name='av')"


@dataclass(frozen=True)
class Report:
    """Exit status, and what came of each check by its section and name."""

    status: int
    works: bool
    checks: dict[tuple[str, str], dict]

    def result(self, section: str, name: str) -> tuple[str, str, str]:
        check = self.checks[section, name]
        return check["status"], check["detail"], check["remedy"]


RunDoctor = Callable[..., Report]


@pytest.fixture
def run_doctor(tmp_path: Path) -> RunDoctor:
    """Runs the command in an empty folder, with modules of these texts in place of packages."""

    def run(**modules: str) -> Report:
        done = start(tmp_path, modules, "doctor", "--json")
        assert done.stderr == ""
        result = json.loads(done.stdout)
        by_name = {(check["section"], check["name"]): check for check in result["checks"]}
        return Report(done.returncode, result["works"], by_name)

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


def run_section(section: str, folder: Path, *packages: Path) -> list[dict]:
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


def test_all_that_is_needed_works_here(run_doctor: RunDoctor) -> None:
    report = run_doctor()
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
    assert report.result("packages", "numpy") == ("works", np.__version__, "")
    assert soundfile.__libsndfile_version__ in report.result("packages", "soundfile")[1]
    assert report.result("training", "torch")[0] == "works"
    assert report.result("models", "shipped")[1].startswith("welcome from 0.731")
    assert re.match(r"(avx2|baseline) instructions$", report.result("models", "kernel")[1])


def test_the_text_lists_the_checks_by_section(tmp_path: Path) -> None:
    done = start(tmp_path, {}, "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.splitlines()
    assert [row for row in rows if not row.startswith(" ")] == [*checks.SECTIONS, "kws works here"]
    probes = [probe for section in checks.SECTIONS for probe in checks.probes_of(section)]
    result = [row for row in rows if row.startswith(" ")]
    assert len(result) == len(probes)
    for row, probe in zip(result, probes, strict=True):
        status = next(each for each in STATUSES if row.startswith(f"  {each} "))
        assert row.removeprefix(f"  {status}").strip().startswith(probe.name)


def test_a_line_ends_with_the_remedy() -> None:
    missing = checks.Check(
        "packages", "av", False, checks.MISSING, "not installed", "pip install av"
    )
    broken = checks.Check("packages", "soxr", True, checks.BROKEN, "OSError: no", "")
    assert examine.format_section([missing, broken]).splitlines() == [
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


def test_a_needed_package_that_does_not_load(run_doctor: RunDoctor) -> None:
    report = run_doctor(soxr="raise OSError('libsoxr.so: cannot open')")
    assert (report.status, report.works) == (1, False)
    result = ("broken", "OSError: libsoxr.so: cannot open", "pip install --force-reinstall soxr")
    assert report.result("packages", "soxr") == result
    assert report.result("packages", "miniaudio")[0] == "works"
    assert report.result("formats", "WAV")[0] == "broken"


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
def test_any_error_of_a_package_is_reported(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "soxr.py").write_text(text)
    result = {
        check["name"]: check for check in run_section("packages", tmp_path, tmp_path, REPOSITORY)
    }
    assert (result["soxr"]["status"], result["soxr"]["detail"]) == ("broken", reason)
    assert result["click"]["status"] == "works"


def test_a_package_that_ends_its_process(run_doctor: RunDoctor) -> None:
    report = run_doctor(tqdm="import os; os.kill(os.getpid(), 11)")
    assert (report.status, report.works) == (1, False)
    assert report.result("packages", "tqdm")[:2] == ("broken", "ended its process (SIGSEGV)")
    assert report.result("packages", "click")[0] == "works"
    assert report.result("packages", "av")[0] != "broken"  # it is tried after that


def test_a_needed_package_that_is_not_there(run_doctor: RunDoctor) -> None:
    report = run_doctor(tqdm="raise ModuleNotFoundError('no tqdm', name='tqdm')")
    assert report.status == 1
    assert report.result("packages", "tqdm") == ("missing", "not installed", "pip install tqdm")


def test_optional_packages_do_not_matter(run_doctor: RunDoctor) -> None:
    report = run_doctor(torch="raise OSError('libcudart.so: cannot open')", av=NO_AV)
    assert (report.status, report.works) == (0, True)
    status, detail, remedy = report.result("training", "torch")
    assert (status, detail) == (
        "broken",
        "OSError: libcudart.so: cannot open",
    ) and ".[train]" in remedy
    assert report.result("training", "gpu")[:2] == ("missing", "needs torch")
    assert report.result("packages", "av")[::2] == ("missing", "pip install av")
    for name in checks.PYAV_FORMATS:
        assert report.result("formats", name) == ("missing", "needs PyAV", "pip install av")


def test_without_numpy_every_section_still_answers(run_doctor: RunDoctor) -> None:
    report = run_doctor(numpy="raise ImportError('no numbers')")
    assert report.status == 1
    assert {section for section, _ in report.checks} == set(checks.SECTIONS)
    assert report.result("packages", "numpy")[:2] == ("broken", "ImportError: no numbers")


@pytest.mark.parametrize(
    ("command", "reason"),
    [("exec sleep 600", "no answer within 1 s"), ("exit 3", r"ended its process \(status 3\)")],
)
def test_a_child_that_does_not_answer_is_killed(command: str, reason: str) -> None:
    child = subprocess.Popen(["sh", "-c", f"{command}"], stdout=subprocess.PIPE)
    with child, pytest.raises(examine._NoAnswerError, match=reason):
        examine._read_line(child, 1.0)
    assert child.returncode != 0


# Formats


def test_the_tone_that_is_read_must_be_the_one_that_was_written() -> None:
    seconds = np.arange(16_000) / 16_000
    tone = sample_files.TONE_AMPLITUDE * np.sin(2 * np.pi * sample_files.TONE_HERTZ * seconds)
    assert checks._check_tone(tone).startswith("1.00 s of 440 Hz")
    for wrong in (tone[:8_000], np.tile(tone, 2), tone[::2].repeat(2)[:8_000], tone / 4, 0 * tone):
        with pytest.raises(checks.Problem, match="written"):
            checks._check_tone(wrong)
    with pytest.raises(checks.Problem, match="880 Hz"):
        checks._check_tone(sample_files.TONE_AMPLITUDE * np.sin(2 * np.pi * 880 * seconds))


# Models


def test_models_of_this_folder_are_checked(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    good = make_model(tmp_path / "models", make_network(2), "good")
    bad = tmp_path / "models" / "bad.kws"
    bad.write_bytes(good.read_bytes()[:-100])
    shipped, _, damaged, whole = run_section("models", tmp_path)
    assert (shipped["name"], shipped["status"]) == ("shipped", "works")
    assert (damaged["name"], damaged["status"], damaged["needed"]) == (
        "models/bad.kws",
        "broken",
        False,
    )
    assert "damaged one. Copy or train it again" in damaged["detail"]
    assert (whole["status"], whole["detail"]) == ("works", "word0 from 0.5, word1 from 0.5")


def test_a_damaged_model_of_this_folder_is_no_failure(
    run_doctor: RunDoctor, tmp_path: Path
) -> None:
    (tmp_path / "work" / "models").mkdir(parents=True)
    (tmp_path / "work" / "models" / "mine.kws").write_bytes(b"garbage")
    report = run_doctor()
    assert (report.status, report.works) == (0, True)
    assert report.result("models", "models/mine.kws")[0] == "broken"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A kws of its own, to be broken."""
    shutil.copytree(REPOSITORY / "kws", tmp_path / "clone" / "kws")
    (tmp_path / "clone" / "models").mkdir()
    for name in ("welcome.kws", "welcome.flac"):
        shutil.copy(REPOSITORY / "models" / name, tmp_path / "clone" / "models")
    return tmp_path / "clone"


def delete(model: Path) -> None:
    model.unlink()


def truncate_model(model: Path) -> None:
    os.truncate(model, 50_000)


def replace_with_other_model(model: Path) -> None:
    shutil.copy(make_model(model.parent, make_network()), model)


def silence_recording(model: Path) -> None:
    soundfile.write(model.with_suffix(".flac"), np.zeros(16_000), 16_000)


@pytest.mark.parametrize(
    ("damage", "status", "detail"),
    [
        (delete, "missing", "welcome.kws is not where kws is installed"),
        (truncate_model, "broken", "a damaged one"),
        (replace_with_other_model, "broken", "does not detect its word"),
        (silence_recording, "broken", "does not detect its word"),
    ],
)
def test_the_shipped_model_must_detect_its_word(clone, tmp_path, damage, status, detail):
    assert run_section("models", tmp_path, clone)[0]["status"] == "works"
    damage(clone / "models" / "welcome.kws")
    check = run_section("models", tmp_path, clone)[0]
    assert (check["status"], check["needed"]) == (status, True)
    assert detail in check["detail"]
    assert checks.Check(**check).fails


@pytest.fixture(
    params=[None, b"no library", Path(_ctypes.__file__).read_bytes()],
    ids=["no kernel", "damaged kernel", "another library"],
)
def library(request: pytest.FixtureRequest, clone: Path) -> Path:
    """Where the kernel of the clone was."""
    path = clone / "kws" / "runtime" / library_path().name
    path.unlink()
    if request.param:
        path.write_bytes(request.param)
    return path


def test_without_its_kernel_kws_works_in_numpy(clone: Path, library: Path, tmp_path: Path) -> None:
    shipped, kernel = run_section("models", tmp_path, clone)
    assert shipped["status"] == "works"
    assert kernel["status"] == ("broken" if library.exists() else "missing")
    assert not checks.Check(**kernel).fails
    assert kernel["detail"].startswith(f"NumPy runs the networks, slowly: {library}")
    assert kernel["remedy"] == "pip install --force-reinstall kws -v"


def test_a_clone_says_how_to_compile_its_kernel(clone: Path, library: Path, tmp_path: Path) -> None:
    builder = clone / "native" / "build_kernel.py"
    builder.parent.mkdir()
    builder.touch()
    kernel = run_section("models", tmp_path, clone)[1]
    assert kernel["remedy"] == f"python {builder} {library}"


def detect(packages: Path) -> subprocess.CompletedProcess:
    """What `kws detect` prints of two recordings."""
    recordings = [REPOSITORY / "recordings" / name for name in ("late.wav", "twice.wav")]
    line = [sys.executable, "-m", "kws", "detect", *recordings]
    pipes = {"capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(line, cwd=packages, **pipes)


def test_numpy_detects_the_same_and_tells_once(clone: Path, library: Path) -> None:
    quick, slow = detect(REPOSITORY), detect(clone)
    assert (quick.stderr, slow.returncode) == ("", 0)
    assert slow.stdout == quick.stdout and slow.stdout.count("welcome") == 3
    assert slow.stderr.count("\n") == slow.stderr.count("NumPy runs") == 1
    assert str(library) in slow.stderr
