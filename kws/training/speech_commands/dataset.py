"""One part of a classification data set: clips of exactly one second, what each is, and who speaks.

Shorter recordings get zeros at their end and longer ones are cut there, the custom of the Speech
Commands examples; nothing is centred, so the word stays where it was spoken.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kws.audio import recordings
from kws.audio.formats import to_int16
from kws.errors import AudioError, DataError
from kws.training.data.clips import Clip
from kws.training.data.dataset import MAX_UNREADABLE_FRACTION

CLIP_SAMPLES = recordings.SAMPLE_RATE  # one second
UNKNOWN, SILENCE = "_unknown_", "_silence_"


@dataclass(frozen=True)
class LabeledClips:
    """`samples` int16 [n, 16000]; `labels` int64 [n]: indices of classes; speakers and words truly
    spoken: one per clip, "" for silence."""

    samples: np.ndarray
    labels: np.ndarray
    speakers: tuple[str, ...]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, mask: np.ndarray) -> "LabeledClips":
        """The clips for which `mask` [n] holds."""
        speakers, words = (
            tuple(name for name, kept in zip(names, mask, strict=True) if kept)
            for names in (self.speakers, self.words)
        )
        return LabeledClips(self.samples[mask], self.labels[mask], speakers, words)


def load_split(
    clips: Sequence[Clip],
    silence: np.ndarray,
    classes: Sequence[str],
    *,
    warn: Callable[[str], None],
    progress: Callable[[Iterable], Iterable] = iter,
) -> LabeledClips:
    """Decodes clips, in their order, and appends pieces of silence [k, 16000]. A word that is no
    class is "_unknown_".

    Clips that cannot be read are named with `warn` and left out. Raises DataError when more than a
    tenth are.
    """
    samples = np.zeros((len(clips) + len(silence), CLIP_SAMPLES), np.int16)
    samples[len(clips) :] = silence
    is_readable_mask, problems = np.ones(len(samples), bool), []
    with ThreadPoolExecutor() as pool:
        for i, wave in enumerate(progress(pool.map(_decode, clips))):
            if isinstance(wave, str):
                problems.append(wave)
                is_readable_mask[i] = False
            else:
                samples[i, : len(wave)] = wave
    _warn_of_unreadable(problems, len(clips), warn)
    kept = [clip for clip, is_good in zip(clips, is_readable_mask, strict=False) if is_good]
    names = [clip.label if clip.label in classes else UNKNOWN for clip in kept] + [SILENCE] * len(
        silence
    )
    return LabeledClips(
        samples=samples if is_readable_mask.all() else samples[is_readable_mask],
        labels=np.array([classes.index(name) for name in names], np.int64),
        speakers=(*(clip.speaker for clip in kept), *[""] * len(silence)),
        words=(*(clip.label for clip in kept), *[""] * len(silence)),
    )


def _decode(clip: Clip) -> np.ndarray | str:
    """The first second, or what is wrong with the clip."""
    try:
        wave = recordings.read(clip.path)[:CLIP_SAMPLES]
    except AudioError as error:
        return str(error)
    return to_int16(wave)


def _warn_of_unreadable(problems: Sequence[str], clips: int, warn: Callable[[str], None]) -> None:
    for problem in problems:
        warn(f"left out: {problem}")
    if len(problems) > MAX_UNREADABLE_FRACTION * clips:
        raise DataError(
            f"{len(problems)} of {clips} clips cannot be used, the first: {problems[0]} Repair or "
            "remove them."
        )
