"""Damages recordings of all formats at random, and reads them in one process as `kws detect` does.

    python tests/support/fuzz_audio.py --count 2000 --seed 0 --keep broken/

For each file: the exit status is 0 or 1, and 1 exactly where one line on stderr begins with
"Error: "; every line on stderr names the file (native libraries write there, too), and there are
two at most; nothing but a KwsError is raised; it takes no longer than ten seconds; the process
lives on. For all together: memory stays flat, and no file stays open.

A file is the same again for the same seed and number, as long as ffmpeg and sox are the same.
"""

import argparse
import ctypes
import faulthandler
import gc
import json
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from formats import FORMS, RECORDINGS, Form
from mutations import MUTATIONS

if TYPE_CHECKING:
    from kws import Spotter

SOURCE = RECORDINGS / "twice.wav"
SOURCE_SECONDS = (2.3, 4.3)  # the excerpt with both words
LIMIT_SECONDS = 10.0
WARM_UP_FILES = 200
MEASURED_EVERY = 100  # files: returning memory takes longer than reading one
GROWTH_BYTES = 5e6
MOST_LINES = 2
RENAMED = 0.1  # of all files have the suffix of another format
OUTCOMES = ("whole", "faulty", "refused", "broken")


@dataclass(frozen=True)
class Plan:
    """The files of one run. seeds: intact files in `folder`."""

    seeds: Sequence[Path]
    folder: Path
    seed: int

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def write(self, number: int) -> Path:
        """Damaged file `number`. Its name holds the number, the format and the damage."""
        rng = np.random.default_rng([self.seed, number])
        intact, other = (
            self.seeds[number % len(self.seeds)],
            self.seeds[rng.integers(len(self.seeds))],
        )
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        content = mutation(rng, intact.read_bytes(), other.read_bytes())
        suffix = other.suffix if rng.random() < RENAMED else intact.suffix
        form = intact.name.replace(".", "-")
        path = self.folder / f"{number:05}-{form}-{mutation.__name__}{suffix}"
        path.write_bytes(content)
        return path


@dataclass(frozen=True)
class Verdict:
    """The result of one file. messages: its stderr. broken: the rule that it broke, if any."""

    number: int
    path: Path
    status: int = 0
    heard_seconds: float = 0.0
    took_seconds: float = 0.0
    messages: tuple[str, ...] = ()
    broken: str = ""

    @property
    def outcome(self) -> str:
        if self.broken:
            return "broken"
        if not self.messages:
            return "whole"
        return "faulty" if self.heard_seconds else "refused"


@dataclass(frozen=True)
class Footprint:
    """The memory of a process after `files` files."""

    files: int
    resident_bytes: int
    open_files: int


@dataclass
class Report:
    """All verdicts, and the footprints of each process; a new process starts after a crash."""

    verdicts: list[Verdict] = field(default_factory=list)
    footprints: list[list[Footprint]] = field(default_factory=list)

    @property
    def leaks(self) -> list[str]:
        """The growth of a process from its warm-up to its end."""
        found = []
        for begun, *_, ended in (each for each in map(_warm, self.footprints) if len(each) > 1):
            growth = ended.resident_bytes - begun.resident_bytes
            if growth > GROWTH_BYTES:
                files = ended.files - begun.files
                found.append(f"memory grew by {growth / 1e6:.1f} MB in {files} files")
            if ended.open_files > begun.open_files:
                found.append(f"{ended.open_files - begun.open_files} files stayed open")
        return found

    @property
    def broken(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.broken]


def _warm(footprints: list[Footprint]) -> list[Footprint]:
    return [each for each in footprints if each.files >= WARM_UP_FILES]


def make_seeds(forms: Sequence[Form], folder: Path) -> list[Path]:
    """Intact files of all forms whose programs are installed."""
    source = folder / "source.wav"
    soundfile.write(source, *_source())
    possible = [form for form in forms if all(map(shutil.which, form.programs))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda form: form.write(source, folder), possible))


def _source() -> tuple[np.ndarray, int]:
    """The excerpt of the source, and its sample rate."""
    samples, rate = soundfile.read(SOURCE)
    return samples[slice(*(round(at * rate) for at in SOURCE_SECONDS))], rate


# The process that reads


class DetectRunner:
    """Runs `kws detect` on one file after the other in this process, with one loaded model.

    What is told on stderr goes to the file `stderr`, and what is found nowhere.
    """

    def __init__(self, stderr: Path) -> None:
        import miniaudio  # noqa: F401 - takes 3 MB once, for the first file that PyAV refuses

        from kws import Spotter
        from kws.audio import recordings
        from kws.cli.main import main

        self._main = main
        self._heard_seconds = 0.0
        spotter = Spotter.load()
        Spotter.load = lambda *_, **__: spotter
        _warm_up(spotter)
        blocks = recordings.stream_blocks

        def counted(*args: object, **kwargs: object) -> Iterator[np.ndarray]:
            for block in blocks(*args, **kwargs):
                self._heard_seconds += len(block) / recordings.SAMPLE_RATE
                yield block

        recordings.stream_blocks = counted
        self._stderr = stderr
        # Below Python: what libraries write to descriptor 2 counts, too.
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def detect_file(self, number: int, path: Path) -> Verdict:
        self._heard_seconds, status, raised = 0.0, 0, ""
        began = time.monotonic()
        try:
            self._main(["detect", str(path)])
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException as error:
            raised = f"raised {error!r} in {_innermost(error)}"
        took = time.monotonic() - began
        messages = self._read_messages()
        broken = raised or _broken_rule(path, status, messages)
        return Verdict(number, path, status, self._heard_seconds, took, messages, broken)

    def _read_messages(self) -> tuple[str, ...]:
        sys.stderr.flush()
        lines = self._stderr.read_text(errors="replace").splitlines()
        os.truncate(self._stderr, 0)
        return tuple(lines)


def _warm_up(spotter: "Spotter") -> None:
    """ONNX Runtime keeps memory for the longest input met twice: words without a pause."""
    words, _ = _source()
    for times in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5):
        list(spotter.detect(np.tile(words, times)))


def _innermost(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _broken_rule(path: Path, status: int, messages: Sequence[str]) -> str:
    stray = [line for line in messages if str(path) not in line]
    errors = sum(line.startswith("Error: ") for line in messages)
    if stray:
        return f"stray line on stderr: {stray[0]}"
    if len(messages) > MOST_LINES:
        return f"{len(messages)} lines on stderr"
    if status not in (0, 1) or status != errors:
        return f"exit status {status} with {errors} errors on stderr"
    return ""


def _footprint(files: int) -> Footprint:
    """Returns free memory to the system first, for glibc keeps some of it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    open_files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return Footprint(files, pages * os.sysconf("SC_PAGE_SIZE"), open_files)


def detect_files(pipe: Connection, plan: Plan, numbers: range) -> None:
    """Sends the path of each file before it is read, its verdict after, and sometimes a footprint.

    Files that broke no rule are removed. Where the process dies, the plan's `trace` tells where.
    """
    runner = DetectRunner(plan.folder / "stderr")
    with plan.trace.open("w") as stacks:
        faulthandler.enable(stacks)
        for count, number in enumerate(numbers, 1):
            path = plan.write(number)
            pipe.send(path)
            faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True, file=stacks)
            verdict = runner.detect_file(number, path)
            faulthandler.cancel_dump_traceback_later()
            if not verdict.broken:
                path.unlink()
            pipe.send(verdict)
            if count % MEASURED_EVERY == 0 or number == numbers[-1]:
                pipe.send(_footprint(count))
        faulthandler.disable()


# The process that watches


def fuzz(count: int, seed: int, forms: Sequence[Form] = FORMS, keep: Path | None = None) -> Report:
    """Reads `count` damaged files. Those that break a rule go to `keep`, with their messages."""
    from tqdm import tqdm

    report = Report()
    with tempfile.TemporaryDirectory(prefix="kws-fuzz-") as folder:
        seeds, damaged = Path(folder, "seeds"), Path(folder, "damaged")
        seeds.mkdir()
        damaged.mkdir()
        plan = Plan(make_seeds(forms, seeds), damaged, seed)
        with tqdm(total=count, unit=" files", disable=None) as progress:
            while len(report.verdicts) < count:
                for verdict in _verdicts(plan, range(len(report.verdicts), count), report):
                    report.verdicts.append(verdict)
                    progress.update()
                    if verdict.broken and keep:
                        _keep(verdict, keep)
    return report


def _verdicts(plan: Plan, numbers: range, report: Report) -> Iterator[Verdict]:
    """Verdicts of one process, up to its end or to the file that kills it."""
    footprints: list[Footprint] = []
    report.footprints.append(footprints)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=detect_files, args=(theirs, plan, numbers), daemon=True)
    process.start()
    theirs.close()
    at, path = numbers.start, None
    try:
        while True:
            message = ours.recv()
            if isinstance(message, Path):
                path = message
            elif isinstance(message, Footprint):
                footprints.append(message)
            else:
                at, path = message.number + 1, None
                yield message
    except EOFError:
        process.join()
    if path is not None:
        yield Verdict(at, path, broken=_death(process.exitcode, plan.trace))
    elif process.exitcode:
        raise RuntimeError(f"the process ended between two files with status {process.exitcode}")


def _death(exitcode: int | None, trace: Path) -> str:
    lines = map(str.strip, trace.read_text().splitlines())
    where = next((line for line in lines if line.startswith("File")), "an unknown place")
    if exitcode is not None and exitcode < 0:
        return f"crash ({signal.Signals(-exitcode).name}) in {where}"
    return f"no end after {LIMIT_SECONDS:g} s, in {where}"


def _keep(verdict: Verdict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(verdict.path, folder)
    (folder / f"{verdict.path.name}.txt").write_text(
        "\n".join([verdict.broken, *verdict.messages, ""])
    )


def describe(report: Report) -> str:
    """The run in figures: by format and damage, the slowest files, memory, and each broken rule."""
    lines = _table("format", [_parts(verdict)[0] for verdict in report.verdicts], report.verdicts)
    lines += [
        "",
        *_table("damage", [_parts(verdict)[1] for verdict in report.verdicts], report.verdicts),
    ]
    slowest = sorted(report.verdicts, key=lambda verdict: -verdict.took_seconds)[:10]
    lines += [
        "",
        "the slowest:",
        *(f"{each.took_seconds:6.2f} s  {each.path.name}" for each in slowest),
        "",
    ]
    for footprints in report.footprints:
        for each in [*_warm(footprints)[:1], *footprints[-1:]]:
            memory = f"{each.resident_bytes / 1e6:.1f} MB, {each.open_files} open files"
            lines.append(f"after {each.files} files: {memory}")
    broken = [f"{each.path.name}: {each.broken}" for each in report.broken]
    return "\n".join([*lines, "", *report.leaks, *broken])


def figures(report: Report, seed: int) -> dict[str, object]:
    """The run in a few numbers, for a document."""
    outcomes = Counter(verdict.outcome for verdict in report.verdicts)
    warm = [_warm(footprints) for footprints in report.footprints]
    growth = [each[-1].resident_bytes - each[0].resident_bytes for each in warm if len(each) > 1]
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "files": len(report.verdicts),
        "seed": seed,
        **{outcome: outcomes[outcome] for outcome in OUTCOMES},
        "slowest_seconds": round(max(verdict.took_seconds for verdict in report.verdicts), 2),
        "growth_mb": round(max(growth, default=0) / 1e6, 1),
    }


def _parts(verdict: Verdict) -> tuple[str, str]:
    """The format of a file, and its damage."""
    _, *form, damage = verdict.path.stem.split("-")
    return "-".join(form), damage


def _table(title: str, groups: Sequence[str], verdicts: Sequence[Verdict]) -> list[str]:
    outcomes = [verdict.outcome for verdict in verdicts]
    counts = Counter(zip(groups, outcomes, strict=True))
    counts.update(("all", outcome) for outcome in outcomes)
    rows = [f"{title:24}" + "".join(f"{name:>9}" for name in ("files", *OUTCOMES))]
    for group in [*sorted(set(groups)), "all"]:
        row = [counts[group, outcome] for outcome in OUTCOMES]
        rows.append(f"{group:24}" + "".join(f"{number:9}" for number in (sum(row), *row)))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Hears damaged recordings of all formats.")
    parser.add_argument("--count", type=int, default=2000, help="damaged files (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="for files that broke a rule")
    parser.add_argument("--out", type=Path, metavar="JSON", help="for the run in a few numbers")
    arguments = parser.parse_args()
    report = fuzz(arguments.count, arguments.seed, keep=arguments.keep)
    print(describe(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures(report, arguments.seed), indent=2) + "\n")
    return int(bool(report.broken or report.leaks))


if __name__ == "__main__":
    sys.exit(main())
