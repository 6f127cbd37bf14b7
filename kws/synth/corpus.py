"""The work of `kws synth` and `kws confusables`."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.errors import SynthError
from kws.files import check_writable
from kws.synth import phonemes, phrase
from kws.synth.confusables import CONTAINING, KINDS, explain_unknown_words, find_confusables
from kws.synth.engines import registry
from kws.synth.engines.registry import EngineSelection
from kws.synth.plan import PlannedClip, plan_clips
from kws.synth.render import MANIFEST_NAME, SynthesisResult, speak
from kws.terminal.stdio import escape_control_chars

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class SynthOptions:
    """The options of `kws synth`. pronunciations: ARPAbet."""

    phrases: tuple[str, ...]
    lists: tuple[Path, ...]
    out: Path
    count: int
    seed: int
    engines: tuple[str, ...]
    piper_voices: tuple[str, ...]
    pronunciations: tuple[str, ...]


def run(options: SynthOptions, as_json: bool) -> None:
    """Synthesizes the clips and prints a summary to stdout. Raises KwsError."""
    texts = [*options.phrases, *(text for path in options.lists for text in read_phrase_list(path))]
    phrases = tuple(dict.fromkeys(map(phrase.normalize, texts)))
    _check_folder_names(phrases)
    pronunciations = tuple(map(phonemes.normalize, options.pronunciations))
    if not pronunciations:
        _warn_of_spellings(options.phrases, texts)
    check_writable(options.out / MANIFEST_NAME)
    engines = registry.select_engines(options.engines, options.piper_voices)
    clips = plan_clips(phrases, options.count, engines.available, options.seed, pronunciations)
    result = speak(clips, engines.available, options.out)
    for message in result.error_messages:
        logger.warning(message)
    report = _report(options.out, result, engines)
    print(json.dumps(report) if as_json else _summarize(options.out, result, engines))


def _check_folder_names(phrases: Sequence[str]) -> None:
    """Raises SynthError where clips of two phrases would share a folder."""
    text_by_folder: dict[str, str] = {}
    for text in phrases:
        other = text_by_folder.setdefault(phrase.folder_name(text), text)
        if other != text:
            raise SynthError(
                f"'{other}' and '{text}' would share a folder. Speak them into different ones."
            )


def _warn_of_spellings(phrases: Sequence[str], texts: Sequence[str]) -> None:
    for text in texts:
        for remark in phrase.explain_capitals(text):
            logger.warning(remark)
    for text in phrases:
        for remark in explain_unknown_words(phrase.normalize(text)):
            logger.warning(remark)


def format_confusables(text: str, pronunciations: Sequence[str], max_near: int) -> str:
    """A line for each confusable of a phrase: kind and text. Those that contain the phrase are
    remarks. pronunciations: ARPAbet. Raises KwsError."""
    phones = [phonemes.to_kokoro(phonemes.normalize(each)) for each in pronunciations]
    lines = [f"# {kind}: {meaning}" for kind, meaning in KINDS.items()]
    for confusable in find_confusables(phrase.normalize(text), phones, max_near):
        line = f"{confusable.kind}\t{confusable.text}"
        lines.append(f"# {line}" if confusable.kind == CONTAINING else line)
    return "\n".join(lines)


def read_phrase_list(path: Path) -> list[str]:
    """Phrases of a list, one a line, after a kind and a tab if there is one. Lines that begin with
    # are remarks. Raises SynthError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SynthError(
            f"{path}: cannot be read as a list of phrases ({error}). "
            "Give a text file with a phrase a line."
        ) from error
    entries = [line for line in lines if not line.lstrip().startswith("#")]
    phrases = [entry.rpartition("\t")[2].strip() for entry in entries]
    if not any(phrases):
        raise SynthError(f"{path}: no phrases in it. Write one a line.")
    return [text for text in phrases if text]


def describe_engines(as_json: bool) -> str:
    """Each engine, and what it lacks."""
    engines = {
        name: {"missing": engine.missing(), "install": engine.install}
        for name, engine in registry.ENGINES.items()
    }
    if as_json:
        return json.dumps(engines)
    return "\n".join(
        f"{name}: needs {each['missing']}: {each['install']}"
        if each["missing"]
        else f"{name}: ready"
        for name, each in engines.items()
    )


def _count_by_engine(clips: Sequence[PlannedClip]) -> dict[str, int]:
    return dict(Counter(clip.engine for clip in clips))


def _report(out: Path, result: SynthesisResult, engines: EngineSelection) -> dict:
    return {
        "folder": str(out),
        "table": str(out / MANIFEST_NAME),
        "clips": len(result.clips),
        "failed": len(result.failed),
        "engines": _count_by_engine(result.clips),
        "unavailable": {engine.name: requirement for engine, requirement in engines.unavailable},
    }


def _summarize(out: Path, result: SynthesisResult, engines: EngineSelection) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in _count_by_engine(result.clips).items())
    lines = [f"{out}: {len(result.clips)} clips ({counts}), listed in {out / MANIFEST_NAME}"]
    for engine, requirement in engines.unavailable:
        lines.append(f"  not used: {engine.name} needs {requirement}: {engine.install}")
    return "\n".join(map(escape_control_chars, lines))
