"""One split of a classification data set: clips of exactly one second.

Shorter recordings get zeros at their end and longer ones are cut there, as the Speech Commands
examples do. Nothing is centred: the word stays where it was spoken.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress

import numpy as np

from kws.audio import recordings
from kws.audio.formats import to_int16
from kws.errors import AudioError
from kws.training.data.clips import Clip
from kws.training.data.dataset import Progress, Warn, warn_about_unreadable

CLIP_SAMPLES = recordings.SAMPLE_RATE  # one second
UNKNOWN, SILENCE = "_unknown_", "_silence_"


@dataclass(frozen=True)
class LabeledClips:
    """`samples` int16 [n, 16000]; `labels` int64 [n]: indices of classes; `speakers` [n] and
    `words` [n]: what is really said, both "" for silence."""

    samples: np.ndarray
    labels: np.ndarray
    speakers: tuple[str, ...]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, mask: np.ndarray) -> "LabeledClips":
        """The clips for which `mask` [n] holds."""
        return LabeledClips(
            self.samples[mask],
            self.labels[mask],
            tuple(compress(self.speakers, mask)),
            tuple(compress(self.words, mask)),
        )


def load_split(
    clips: Sequence[Clip],
    silence: np.ndarray,
    classes: Sequence[str],
    *,
    warn: Warn,
    progress: Progress = iter,
) -> LabeledClips:
    """Decodes clips, in their order, and appends clips of silence [k, 16000]. Words that are no
    class are "_unknown_".

    Clips that cannot be read are named with `warn` and left out. Raises DataError when more than a
    tenth are.
    """
    samples = np.zeros((len(clips) + len(silence), CLIP_SAMPLES), np.int16)
    samples[len(clips) :] = silence
    is_usable, problems = np.ones(len(samples), bool), []
    with ThreadPoolExecutor() as pool:
        for i, wave in enumerate(progress(pool.map(_decode, clips))):
            if isinstance(wave, str):
                problems.append(wave)
                is_usable[i] = False
            else:
                samples[i, : len(wave)] = wave
    warn_about_unreadable(problems, len(clips), warn)
    labels = [clip.label if clip.label in classes else UNKNOWN for clip in clips]
    labels += [SILENCE] * len(silence)
    everything = LabeledClips(
        samples,
        np.array([classes.index(label) for label in labels], np.int64),
        (*(clip.speaker for clip in clips), *[""] * len(silence)),
        (*(clip.label for clip in clips), *[""] * len(silence)),
    )
    return everything if is_usable.all() else everything.select(is_usable)


def _decode(clip: Clip) -> np.ndarray | str:
    """The first second, or what is wrong with the clip."""
    try:
        return to_int16(recordings.read(clip.path)[:CLIP_SAMPLES])
    except AudioError as error:
        return str(error)
