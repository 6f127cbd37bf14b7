"""What `kws synth` does with its options."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.files import check_writable
from kws.synth import phonemes, phrase
from kws.synth.confusables import CONTAINING, KINDS, explain_unknown_words, find_confusables
from kws.synth.engines import registry
from kws.synth.engines.base import SynthError
from kws.synth.engines.registry import EngineSelection
from kws.synth.plan import PlannedClip, plan_clips
from kws.synth.render import MANIFEST_NAME, SynthesisResult, speak
from kws.terminal.progress import progress_bar
from kws.terminal.stdio import escape_control_chars

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class SynthOptions:
    """The wishes of one `kws synth`."""

    phrases: tuple[str, ...]
    lists: tuple[Path, ...]
    out: Path
    count: int
    seed: int
    engines: tuple[str, ...]
    piper_voices: tuple[str, ...]
    pronunciations: tuple[str, ...]


def run(options: SynthOptions, as_json: bool) -> None:
    """Speaks as wished, and says what came of it. Raises KwsError."""
    texts = [*options.phrases, *(text for path in options.lists for text in read_phrase_list(path))]
    phrases = tuple(dict.fromkeys(map(phrase.normalize, texts)))
    _check_folder_names(phrases)
    pronunciations = tuple(map(phonemes.normalize, options.pronunciations))
    if not pronunciations:
        for note in (note for text in texts for note in phrase.explain_capitals(text)):
            logger.warning(note)
        for note in (
            note
            for text in options.phrases
            for note in explain_unknown_words(phrase.normalize(text))
        ):
            logger.warning(note)
    check_writable(options.out / MANIFEST_NAME)
    found = registry.found(options.engines, options.piper_voices)
    clips = plan_clips(phrases, options.count, found.available, options.seed, pronunciations)
    result = speak(clips, found.available, options.out, progress=progress)
    for error_message in result.error_messages:
        logger.warning(error_message)
    print(
        json.dumps(_report(options, result, found)) if as_json else _summary(options, result, found)
    )


def _check_folder_names(phrases: Sequence[str]) -> None:
    """Raises SynthError where clips of two phrases would be mixed."""
    text_by_folder: dict[str, str] = {}
    for text in phrases:
        other = text_by_folder.setdefault(phrase.folder_name(text), text)
        if other != text:
            raise SynthError(
                f"'{other}' and '{text}' would share a folder. Speak them into different ones."
            )


def format_confusables(text: str, pronunciations: Sequence[str], max_near: int) -> str:
    """A line for each neighbour of a phrase: kind and text; what holds it whole stands in remarks.
    Raises KwsError."""
    phone_strings = [phonemes.to_kokoro(phonemes.normalize(each)) for each in pronunciations]
    found = find_confusables(phrase.normalize(text), phone_strings, max_near)
    lines = [f"{'# ' * (each.kind == CONTAINING)}{each.kind}\t{each.text}" for each in found]
    return "\n".join([f"# {kind}: {meaning}" for kind, meaning in KINDS.items()] + lines)


def read_phrase_list(path: Path) -> list[str]:
    """Phrases of a list, one a line, after a kind and a tab if there is one; lines that begin with
    # are remarks. Raises SynthError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SynthError(
            f"{path}: cannot be read as a list of phrases ({error}). "
            "Give a text file with a phrase a line."
        ) from error
    found = [
        line.rpartition("\t")[2].strip() for line in lines if not line.lstrip().startswith("#")
    ]
    if not any(found):
        raise SynthError(f"{path}: no phrases in it. Write one a line.")
    return [text for text in found if text]


def describe_engines(as_json: bool) -> str:
    """Each engine, and what it lacks."""
    requirements = {engine.name: engine.missing() for engine in registry.ENGINES.values()}
    if as_json:
        return json.dumps(
            {
                name: {"missing": requirement, "install": registry.ENGINES[name].install}
                for name, requirement in requirements.items()
            }
        )
    return "\n".join(
        f"{name}: {f'needs {requirement}: {registry.ENGINES[name].install}' if requirement else 'ready'}"
        for name, requirement in requirements.items()
    )


def progress(work: Iterable, total: int) -> Iterable:
    """A bar on stderr, where that is a terminal."""
    return progress_bar(work, "speaking", unit="batch", total=total)


def _clips_by_engine(clips: Sequence[PlannedClip]) -> dict[str, int]:
    return dict(Counter(clip.engine for clip in clips))


def _report(options: SynthOptions, result: SynthesisResult, found: EngineSelection) -> dict:
    return {
        "folder": str(options.out),
        "table": str(options.out / MANIFEST_NAME),
        "clips": len(result.clips),
        "failed": len(result.failed),
        "engines": _clips_by_engine(result.clips),
        "unavailable": {engine.name: requirement for engine, requirement in found.unavailable},
    }


def _summary(options: SynthOptions, result: SynthesisResult, found: EngineSelection) -> str:
    by_engine = ", ".join(
        f"{count} {name}" for name, count in _clips_by_engine(result.clips).items()
    )
    lines = [
        (
            f"{options.out}: {len(result.clips)} clips ({by_engine}); "
            f"{options.out / MANIFEST_NAME} says who speaks"
        )
    ]
    lines += [
        f"  not used: {engine.name} needs {requirement}: {engine.install}"
        for engine, requirement in found.unavailable
    ]
    return "\n".join(map(escape_control_chars, lines))
