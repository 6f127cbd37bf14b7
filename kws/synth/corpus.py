"""What `kws synth` does with its options."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from kws.synth import phonemes, phrase
from kws.synth.confusables import CONTAINING, KINDS, guesses, neighbours
from kws.synth.engines import registry
from kws.synth.engines.base import SynthError
from kws.synth.engines.registry import Found
from kws.synth.plan import Clip, planned
from kws.synth.render import TABLE, Spoken, speak
from kws.terminal.printers import check_place
from kws.terminal.stdio import escaped

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """The wishes of one `kws synth`."""

    phrases: tuple[str, ...]
    lists: tuple[Path, ...]
    out: Path
    count: int
    seed: int
    engines: tuple[str, ...]
    piper_voices: tuple[str, ...]
    pronunciations: tuple[str, ...]


def run(options: Options, as_json: bool, warn: Warn) -> None:
    """Speaks as wished, and says what came of it. Raises KwsError."""
    texts = [*options.phrases, *(text for path in options.lists for text in read_list(path))]
    phrases = tuple(dict.fromkeys(map(phrase.checked, texts)))
    _check_names(phrases)
    pronunciations = tuple(map(phonemes.checked, options.pronunciations))
    if not pronunciations:
        for remark in (remark for text in texts for remark in phrase.remarks(text)):
            warn(remark)
        for remark in (
            remark for text in options.phrases for remark in guesses(phrase.checked(text))
        ):
            warn(remark)
    check_place(options.out / TABLE)
    found = registry.found(options.engines, options.piper_voices)
    clips = planned(phrases, options.count, found.ready, options.seed, pronunciations)
    spoken = speak(clips, found.ready, options.out, progress=progress)
    for trouble in spoken.troubles:
        warn(trouble)
    print(
        json.dumps(_report(options, spoken, found)) if as_json else _summary(options, spoken, found)
    )


def _check_names(phrases: Sequence[str]) -> None:
    """Raises SynthError where clips of two phrases would be mixed."""
    named: dict[str, str] = {}
    for text in phrases:
        other = named.setdefault(phrase.folder_name(text), text)
        if other != text:
            raise SynthError(
                f"'{other}' and '{text}' would share a folder. Speak them into different ones."
            )


def neighbour_lines(text: str, pronunciations: Sequence[str], most_near: int) -> str:
    """A line for each neighbour of a phrase: kind and text; what holds it whole stands in remarks.
    Raises KwsError."""
    said = [phonemes.to_kokoro(phonemes.checked(each)) for each in pronunciations]
    found = neighbours(phrase.checked(text), said, most_near)
    lines = [f"{'# ' * (each.kind == CONTAINING)}{each.kind}\t{each.text}" for each in found]
    return "\n".join([f"# {kind}: {meaning}" for kind, meaning in KINDS.items()] + lines)


def read_list(path: Path) -> list[str]:
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


def on_engines(as_json: bool) -> str:
    """Each engine, and what it lacks."""
    lacks = {engine.name: engine.missing() for engine in registry.ENGINES.values()}
    if as_json:
        return json.dumps(
            {
                name: {"lacks": lack, "install": registry.ENGINES[name].install}
                for name, lack in lacks.items()
            }
        )
    return "\n".join(
        f"{name}: {f'needs {lack}: {registry.ENGINES[name].install}' if lack else 'ready'}"
        for name, lack in lacks.items()
    )


def progress(work: Iterable, total: int) -> Iterable:
    """A bar on stderr, where that is a terminal."""
    return tqdm(
        work,
        desc="speaking",
        total=total,
        unit="piece",
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        delay=0.5,
    )


def _counts(clips: Sequence[Clip]) -> dict[str, int]:
    return dict(Counter(clip.engine for clip in clips))


def _report(options: Options, spoken: Spoken, found: Found) -> dict:
    return {
        "folder": str(options.out),
        "table": str(options.out / TABLE),
        "clips": len(spoken.clips),
        "failed": len(spoken.failed),
        "engines": _counts(spoken.clips),
        "lacking": {engine.name: lack for engine, lack in found.lacking},
    }


def _summary(options: Options, spoken: Spoken, found: Found) -> str:
    by_engine = ", ".join(f"{count} {name}" for name, count in _counts(spoken.clips).items())
    lines = [
        (
            f"{options.out}: {len(spoken.clips)} clips ({by_engine}); "
            f"{options.out / TABLE} says who speaks"
        )
    ]
    lines += [
        f"  not used: {engine.name} needs {lack}: {engine.install}"
        for engine, lack in found.lacking
    ]
    return "\n".join(map(escaped, lines))
