"""Speaks planned clips on all cores, leaves alone what is there, and writes a table of what was
spoken by whom."""

import csv
import io
import json
import multiprocessing
import os
import signal
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import KwsError
from kws.synth.audio import finished, write
from kws.synth.engines.base import Engine, SynthError
from kws.synth.plan import Clip, pieces
from kws.terminal.printers import replace_file

TABLE = "clips.csv"
SHORTEST_SECONDS = 0.1
_COLUMNS = ("file", "text", "engine", "voice", "licence", "seconds", "settings")

Progress = Callable[[Iterable, int], Iterable]

_engines: dict[str, Engine] = {}  # of a worker


@dataclass(frozen=True)
class Spoken:
    """Clips that are there, and those that an engine could not say with what it said instead."""

    clips: tuple[Clip, ...]
    failed: tuple[tuple[Clip, str], ...]

    @property
    def troubles(self) -> list[str]:
        """A sentence for each engine and text that failed, with the first thing it said."""
        told: dict[tuple[str, str], list[str]] = {}
        for clip, trouble in self.failed:
            told.setdefault((clip.engine, clip.text), []).append(trouble)
        return [
            f"{engine} could not say '{text}' {len(each)} times: {each[0]}"
            for (engine, text), each in told.items()
        ]


def speak(
    clips: Sequence[Clip],
    engines: Sequence[Engine],
    folder: Path,
    *,
    progress: Progress = lambda work, _: work,
    jobs: int = 0,
) -> Spoken:
    """Speaks what is not there yet, and writes `folder`/clips.csv, also when it is stopped.

    Raises SynthError where nothing could be spoken, or the table that is there is none of ours;
    KwsError where it cannot be written.
    """
    known = read_table(folder)
    missing = [clip for clip in clips if not (folder / clip.file).exists()]
    for name in {clip.engine for clip in missing}:
        next(engine for engine in engines if engine.name == name).prepare()
    troubles: dict[Path, str] = {}
    try:
        for told in progress(
            _results(pieces(missing), engines, folder, jobs or _cores()), len(pieces(missing))
        ):
            troubles |= told
        failed = tuple((clip, troubles[clip.file]) for clip in clips if clip.file in troubles)
        if failed and len(failed) == len(clips):
            raise SynthError(
                f"'{failed[0][0].text}' could not be spoken: {failed[0][0].engine}: {failed[0][1]}"
            )
    finally:
        _write_table(
            folder, known, clips, missing, {engine.name: engine.licence for engine in engines}
        )
    return Spoken(tuple(clip for clip in clips if clip.file not in troubles), failed)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _results(
    work: Sequence[list[Clip]], engines: Sequence[Engine], folder: Path, jobs: int
) -> Iterator[dict[Path, str]]:
    """Of each piece of work the clips that failed. Workers are forked, as engines hold functions;
    where none can be, one by one."""
    tasks = [(some, folder) for some in work]
    if jobs == 1 or not work or "fork" not in multiprocessing.get_all_start_methods():
        _begin(engines, False)
        yield from map(_speak_some, tasks)
        return
    pool = ProcessPoolExecutor(
        min(jobs, len(work)), multiprocessing.get_context("fork"), _begin, (engines, True)
    )
    try:
        for done in as_completed([pool.submit(_speak_some, task) for task in tasks]):
            yield done.result()
    except BrokenProcessPool as error:
        # Engines are native code: they may crash, or be killed where memory runs out.
        raise SynthError(
            "an engine ended its process. "
            "What was spoken is kept: give the same command again, it goes on there."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(engines: Sequence[Engine], in_worker: bool) -> None:
    if in_worker:
        # Ctrl-C reaches the workers too; who waits for them decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _engines.update({engine.name: engine for engine in engines})


def _speak_some(task: tuple[list[Clip], Path]) -> dict[Path, str]:
    clips, folder = task
    troubles = {}
    for clip in clips:
        try:
            samples, rate = _engines[clip.engine].speak(clip.text, clip.settings)
            spoken = finished(samples, rate, float(clip.settings.get("size", 1.0)))
        except SynthError as error:
            troubles[clip.file] = str(error)
            continue
        except KwsError:
            raise
        except Exception as error:
            # Engines are other people's programs: one bad clip should not cost the others.
            troubles[clip.file] = f"{type(error).__name__}: {error}"
            continue
        if len(spoken) < SHORTEST_SECONDS * SAMPLE_RATE or not np.abs(spoken).max(initial=0.0) > 0:
            troubles[clip.file] = "gave no sound"
            continue
        write(folder / clip.file, spoken)
    return troubles


def _write_table(
    folder: Path,
    known: list[dict],
    clips: Sequence[Clip],
    new: Sequence[Clip],
    licences: dict[str, str],
) -> None:
    """All clips of the folder, those of earlier calls too, in the order of their names. What was
    there before keeps its row."""
    rows, fresh = {row["file"]: row for row in known}, {clip.file for clip in new}
    for clip in clips:
        if (folder / clip.file).exists() and (
            clip.file in fresh or clip.file.as_posix() not in rows
        ):
            rows[clip.file.as_posix()] = _row(folder, clip, licences[clip.engine])
    kept = [rows[file] for file in sorted(rows) if (folder / file).exists()]
    if not kept:
        return
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    table.writerows(kept)
    replace_file(folder / TABLE, text.getvalue().encode())


def _row(folder: Path, clip: Clip, licence: str) -> dict[str, str]:
    return {
        "file": clip.file.as_posix(),
        "text": clip.text,
        "engine": clip.engine,
        "voice": str(clip.settings["voice"]),
        "licence": licence,
        "seconds": f"{_seconds(folder / clip.file):.3f}",
        "settings": json.dumps(
            {key: value for key, value in clip.settings.items() if key != "voice"}
        ),
    }


def read_table(folder: Path) -> list[dict[str, str]]:
    """Rows of a folder's table; none where there is no table. Raises SynthError for a table that is
    none of ours."""
    path = folder / TABLE
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if all(set(_COLUMNS) <= set(row) for row in rows):
            return rows
    except (OSError, UnicodeDecodeError, csv.Error):
        pass
    raise SynthError(
        f"{path}: is not the table of kws synth, or was changed by another program. Move it away."
    )


def _seconds(path: Path) -> float:
    try:
        with wave.open(str(path)) as file:
            return file.getnframes() / file.getframerate()
    except (OSError, wave.Error, EOFError) as error:
        raise SynthError(
            f"{path}: is no clip of kws synth ({error or 'it is empty'}). Delete it; "
            "it will be spoken again."
        ) from error
