"""From a phrase to folders of spoken clips that a detector can learn from: the phrase, alone and within sentences; what sounds like
it and is not it; ordinary sentences. All are spoken by the same engines, so that being spoken says nothing.

    FOLDER/neighbours.txt          what sounds like the phrase; found once, then a user's to edit
    FOLDER/words/PHRASE/*.wav      and words/NEIGHBOUR/*.wav
    FOLDER/carried/PHRASE/*.wav    the phrase somewhere in a few words
    FOLDER/sentences/*/*.wav

What is there is not spoken again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from kws.errors import DataError
from kws.output import replace_file
from kws.synth import engines, phonemes, phrase
from kws.synth.command import neighbour_lines, progress, read_list
from kws.synth.engine import Engine
from kws.synth.plan import Clip, planned, spoken_as
from kws.synth.speaking import speak
from kws.training.material import Folders

NEIGHBOURS = 60  # words that share sounds; their parts and orders come on top
NEIGHBOUR_CLIPS, SENTENCE_CLIPS = 0.015, 0.005  # of each, for one clip of the phrase
CARRIED_CLIPS = 0.2  # of all carriers together


@dataclass(frozen=True)
class Speech:
    """What is to be spoken: clips of the phrase; how it is pronounced (ARPAbet), if not as spelled; by which engines."""

    phrase: str
    clips: int = 1200
    seed: int = 0
    pronunciations: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    piper_voices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The word as a model names it."""
        return phrase.folder_name(phrase.checked(self.phrase))


def spoken(speech: Speech, folders: Folders, *, say: Callable[[str], None], warn: Callable[[str], None]) -> Folders:
    """The folders, with those of spoken clips below `folders.data`; speaks what is missing there.

    Raises KwsError where the phrase cannot be spoken.
    """
    folder = folders.data
    text, said = phrase.checked(speech.phrase), tuple(map(phonemes.checked, speech.pronunciations))
    found = engines.found(speech.engines, speech.piper_voices)
    for engine, lack in found.lacking:
        warn(f"{engine.name} does not speak, it needs {lack}: {engine.install}")
    listed = _neighbours(text, said, folder, say)
    few, rare = (max(round(speech.clips * share), 1) for share in (NEIGHBOUR_CLIPS, SENTENCE_CLIPS))
    carriers, sentences = (_lines(name) for name in ("carriers.txt", "sentences.txt"))
    carried = [carrier.format(text) for carrier in carriers] if not said else []
    each = max(round(speech.clips * CARRIED_CLIPS / len(carriers)), 1)
    _speak("the phrase", planned([text], speech.clips, found.ready, speech.seed, said), found.ready, folder / "words", say, warn)
    _speak("what sounds like it", planned(listed, few, found.ready, speech.seed), found.ready, folder / "words", say, warn)
    within = [spoken_as(clip, speech.name) for clip in planned(carried, each, found.ready, speech.seed)]
    _speak("the phrase within a few words", within, found.ready, folder / "carried", say, warn)
    _speak("sentences", planned(sentences, rare, found.ready, speech.seed), found.ready, folder / "sentences", say, warn)
    return replace(
        folders,
        data=folder / "words",
        negatives=(folder / "sentences", *folders.negatives),
        phrases=(*((folder / "carried",) if carried else ()), *folders.phrases),
    )


def _neighbours(text: str, pronunciations: Sequence[str], folder: Path, say: Callable[[str], None]) -> list[str]:
    path = folder / "neighbours.txt"
    if not path.exists():
        replace_file(path, (neighbour_lines(text, pronunciations, NEIGHBOURS) + "\n").encode())
        say(f"{path} lists what sounds like '{text}': edit it, and give the same command again, to have other words told from it")
    listed = list(dict.fromkeys(map(phrase.checked, read_list(path))))
    if text in listed:
        raise DataError(f"{path}: lists '{text}' itself. Delete that line.")
    return listed


def _speak(
    what: str, clips: Sequence[Clip], ready: Sequence[Engine], folder: Path, say: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    missing = [clip for clip in clips if not (folder / clip.file).exists()]
    if missing:
        say(f"speaking {what}: {len(missing)} clips")
        for trouble in speak(clips, ready, folder, progress=progress).troubles:
            warn(trouble)


def _lines(name: str) -> list[str]:
    return [line for line in (files("kws.synth") / name).read_text(encoding="utf-8").splitlines() if line]
