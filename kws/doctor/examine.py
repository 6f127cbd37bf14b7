"""Runs the checks of `kws doctor`, and formats their results.

Each section of `kws.doctor.checks` runs in a process of its own, so that a crash or a hang is
reported like any other failure.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict

from kws.doctor.checks import BROKEN, SECTIONS, Check, Probe, probes_of
from kws.errors import KwsError

_TIMEOUT_SECONDS = 60.0  # of one check; importing torch takes half of it on a busy machine

# The program of a child process. It has this sys.path, whatever the current folder holds.
_CHILD = """
import sys
section, start, *sys.path = sys.argv[1:]
from kws.doctor.examine import answer
answer(section, int(start))
"""


def run() -> Iterator[list[Check]]:
    """The checks of each section, in order, as soon as they are done.

    Raises KwsError where no temporary folder can be made.
    """
    with _scratch_folder() as scratch, ThreadPoolExecutor(len(SECTIONS)) as pool:
        runners = [_SectionRunner(section, scratch) for section in SECTIONS]
        try:
            yield from pool.map(_SectionRunner.checks, runners)
        finally:  # Ctrl-C, or nobody reads on
            for runner in runners:
                runner.close()


@contextmanager
def _scratch_folder() -> Iterator[str]:
    """A temporary folder. It is deleted even if a killed child left files in it."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="kws-", ignore_cleanup_errors=True)
    except OSError as error:
        raise KwsError(
            f"no temporary folder can be made ({error.strerror}). Set TMPDIR."
        ) from error
    with folder as name:
        yield name


def format_section(checks: Sequence[Check]) -> str:
    """A section as text."""
    width = max(len(check.name) for check in checks)
    return "\n".join([checks[0].section, *(f"  {_format_check(check, width)}" for check in checks)])


def _format_check(check: Check, width: int) -> str:
    remedy = f"  → {check.remedy}" if check.remedy else ""
    return f"{check.status:<9}  {check.name:<{width}}  {check.detail}{remedy}"


def summary(checks: Sequence[Check]) -> str:
    """The last line."""
    failing = [check.name for check in checks if check.fails]
    if failing:
        return f"kws does not work here: {', '.join(failing)}"
    return "kws works here"


def as_json(checks: Sequence[Check]) -> str:
    """One object: `works`, and `checks`, a list of objects with the fields of `Check`."""
    works = not any(check.fails for check in checks)
    return json.dumps({"works": works, "checks": [asdict(check) for check in checks]})


def answer(section: str, start: int) -> None:
    """The work of a child: runs the probes of a section from number `start` on, and writes a
    line of JSON for each."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # libraries may print to stdout
        for probe in probes_of(section)[start:]:
            print(json.dumps(asdict(probe.check())), file=out, flush=True)


class _SectionRunner:
    """Runs one section in a child process. Where the child does not answer, another one runs the
    rest."""

    def __init__(self, section: str, scratch: str):
        self._section = section
        # matplotlib writes a font cache to MPLCONFIGDIR.
        self._environment = {"TMPDIR": scratch, "MPLCONFIGDIR": scratch}
        self._closed = False
        self._child: subprocess.Popen | None = None

    def checks(self) -> list[Check]:
        probes = probes_of(self._section)
        results: list[Check] = []
        while len(results) < len(probes) and not self._closed:
            results += self._run_child(probes, len(results))
        return results

    def close(self) -> None:
        self._closed = True
        if self._child:
            self._child.kill()

    def _run_child(self, probes: Sequence[Probe], start: int) -> list[Check]:
        """Checks from number `start` on. If the child does not answer, the last one says so."""
        line = [sys.executable, "-c", _CHILD, self._section, str(start), *sys.path]
        results: list[Check] = []
        with subprocess.Popen(
            line,
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            self._child = child
            for probe in probes[start:]:
                try:
                    results.append(Check(**json.loads(_read_line(child, _TIMEOUT_SECONDS))))
                except _NoAnswerError as error:
                    return [*results, probe.report(BROKEN, str(error), probe.remedy)]
        return results


class _NoAnswerError(Exception):
    """A child process did not answer."""


def _read_line(child: subprocess.Popen, seconds: float) -> bytes:
    """The next line of a child. Raises _NoAnswerError where the child ends before it, or takes
    longer."""
    assert child.stdout is not None  # a pipe
    timed_out = threading.Event()

    def kill_child() -> None:
        timed_out.set()
        child.kill()

    timer = threading.Timer(seconds, kill_child)
    timer.start()
    line = child.stdout.readline()
    timer.cancel()
    if timed_out.is_set():
        raise _NoAnswerError(f"no answer within {seconds:.0f} s")
    if not line:
        raise _NoAnswerError(f"ended its process ({_describe_exit(child.wait())})")
    return line


def _describe_exit(status: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"status {status}"
