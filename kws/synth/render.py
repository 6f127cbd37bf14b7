"""Speaks the clips of a plan on all cores, keeps existing clips, and writes a table of them."""

import csv
import io
import json
import multiprocessing
import os
import signal
import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.recordings import SAMPLE_RATE
from kws.errors import KwsError, SynthError
from kws.files import write_atomically
from kws.synth.audio import postprocess, write
from kws.synth.engines.base import SpeechEngine
from kws.synth.plan import PlannedClip, make_batches
from kws.terminal.progress import progress_bar

MANIFEST_NAME = "clips.csv"
MIN_CLIP_SECONDS = 0.1
_COLUMNS = ("file", "text", "engine", "voice", "licence", "seconds", "settings")

_engines: dict[str, SpeechEngine] = {}  # of a worker process


@dataclass(frozen=True)
class SynthesisResult:
    """Clips that exist, and clips that an engine could not speak, with its error message."""

    clips: tuple[PlannedClip, ...]
    failed: tuple[tuple[PlannedClip, str], ...]

    @property
    def error_messages(self) -> list[str]:
        """A sentence for each engine and text that failed, with the first error message."""
        messages_by_text: dict[tuple[str, str], list[str]] = {}
        for clip, error_message in self.failed:
            messages_by_text.setdefault((clip.engine, clip.text), []).append(error_message)
        return [
            f"{engine} could not say '{text}' {len(messages)} times: {messages[0]}"
            for (engine, text), messages in messages_by_text.items()
        ]


def speak(
    clips: Sequence[PlannedClip],
    engines: Sequence[SpeechEngine],
    folder: Path,
    *,
    jobs: int = 0,
) -> SynthesisResult:
    """Speaks the clips that are missing, with a progress bar, and writes `folder`/clips.csv, also
    when it is stopped. jobs: number of processes, by default one for each core.

    Raises SynthError where no clip could be spoken, or `folder`/clips.csv is of another program;
    KwsError where nothing can be written.
    """
    previous_rows = read_manifest(folder)
    missing = [clip for clip in clips if not (folder / clip.file).exists()]
    for name in {clip.engine for clip in missing}:
        next(engine for engine in engines if engine.name == name).prepare()
    batches = make_batches(missing)
    results = _run_batches(batches, engines, folder, jobs or _count_cores())
    error_messages: dict[Path, str] = {}
    try:
        for batch_messages in progress_bar(results, "speaking", unit="batch", total=len(batches)):
            error_messages |= batch_messages
        failed = tuple(
            (clip, error_messages[clip.file]) for clip in clips if clip.file in error_messages
        )
        if failed and len(failed) == len(clips):
            raise SynthError(
                f"'{failed[0][0].text}' could not be spoken: {failed[0][0].engine}: {failed[0][1]}"
            )
    finally:
        _write_manifest(
            folder,
            previous_rows,
            clips,
            missing,
            {engine.name: engine.licence for engine in engines},
        )
    return SynthesisResult(tuple(clip for clip in clips if clip.file not in error_messages), failed)


def _count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_batches(
    batches: Sequence[list[PlannedClip]], engines: Sequence[SpeechEngine], folder: Path, jobs: int
) -> Iterator[dict[Path, str]]:
    """The error messages of each batch, by file. Workers are forked, because engines hold functions
    and cannot be pickled; where the system cannot fork, this process does the work."""
    tasks = [(batch, folder) for batch in batches]
    if jobs == 1 or not batches or "fork" not in multiprocessing.get_all_start_methods():
        _init_worker(engines, False)
        yield from map(_speak_batch, tasks)
        return
    pool = ProcessPoolExecutor(
        min(jobs, len(batches)), multiprocessing.get_context("fork"), _init_worker, (engines, True)
    )
    try:
        for future in as_completed([pool.submit(_speak_batch, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        # Engines are native code: they may crash, or be killed where memory runs out.
        raise SynthError(
            "an engine ended its process. "
            "The clips so far are kept: give the same command again, and it resumes there."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _init_worker(engines: Sequence[SpeechEngine], is_worker: bool) -> None:
    if is_worker:
        # Ctrl-C reaches the workers too; the parent process decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _engines.update({engine.name: engine for engine in engines})


def _speak_batch(task: tuple[list[PlannedClip], Path]) -> dict[Path, str]:
    clips, folder = task
    error_messages = {}
    for clip in clips:
        try:
            samples, rate = _engines[clip.engine].speak(clip.text, clip.settings)
            clip_samples = postprocess(samples, rate, float(clip.settings.get("size", 1.0)))
        except SynthError as error:
            error_messages[clip.file] = str(error)
            continue
        except KwsError:
            raise
        except Exception as error:
            # Engines are third-party programs; one bad clip must not cost the others.
            error_messages[clip.file] = f"{type(error).__name__}: {error}"
            continue
        if (
            len(clip_samples) < MIN_CLIP_SECONDS * SAMPLE_RATE
            or not np.abs(clip_samples).max(initial=0.0) > 0
        ):
            error_messages[clip.file] = "gave no sound"
            continue
        write(folder / clip.file, clip_samples)
    return error_messages


def _write_manifest(
    folder: Path,
    previous_rows: list[dict],
    clips: Sequence[PlannedClip],
    new: Sequence[PlannedClip],
    licences: dict[str, str],
) -> None:
    """Lists all clips of the folder, those of earlier calls too, by file name. Clips that existed
    before keep their rows."""
    rows = {row["file"]: row for row in previous_rows}
    new_files = {clip.file for clip in new}
    for clip in clips:
        file = clip.file.as_posix()
        if (folder / file).exists() and (clip.file in new_files or file not in rows):
            rows[file] = _row(folder, clip, licences[clip.engine])
    manifest_rows = [rows[file] for file in sorted(rows) if (folder / file).exists()]
    if not manifest_rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(manifest_rows)
    write_atomically(folder / MANIFEST_NAME, text.getvalue().encode())


def _row(folder: Path, clip: PlannedClip, licence: str) -> dict[str, str]:
    return {
        "file": clip.file.as_posix(),
        "text": clip.text,
        "engine": clip.engine,
        "voice": str(clip.settings["voice"]),
        "licence": licence,
        "seconds": f"{_clip_seconds(folder / clip.file):.3f}",
        "settings": json.dumps(
            {key: value for key, value in clip.settings.items() if key != "voice"}
        ),
    }


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """The rows of clips.csv, if there is one. Raises SynthError for a table of another program."""
    path = folder / MANIFEST_NAME
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


def _clip_seconds(path: Path) -> float:
    try:
        with wave.open(str(path)) as file:
            return file.getnframes() / file.getframerate()
    except (OSError, wave.Error, EOFError) as error:
        raise SynthError(
            f"{path}: is no clip of kws synth ({error or 'it is empty'}). Delete it; "
            "it will be spoken again."
        ) from error
