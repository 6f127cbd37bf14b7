"""The engines that are there."""

from collections.abc import Sequence
from dataclasses import dataclass

from kws.synth.engines import espeak, festival, flite, hibari, kokoro, pico, piper
from kws.synth.engines.base import Engine, SynthError

ENGINES = {
    module.ENGINE.name: module.ENGINE
    for module in (kokoro, piper, hibari, pico, flite, espeak, festival)
}


@dataclass(frozen=True)
class Found:
    """Engines that can speak, and of the others what they lack."""

    ready: tuple[Engine, ...]
    lacking: tuple[tuple[Engine, str], ...]


def found(wanted: Sequence[str] = (), piper_voices: Sequence[str] = ()) -> Found:
    """Of all engines, or of those wanted; with the Piper voice files of a user.

    Raises SynthError where one is not known, where one that was asked for by name lacks something,
    and where there is none at all.
    """
    unknown = [name for name in wanted if name not in ENGINES]
    if unknown:
        raise SynthError(f"'{unknown[0]}' is no engine. There are {', '.join(ENGINES)}.")
    engines = [ENGINES[name] for name in dict.fromkeys(wanted)] if wanted else [*ENGINES.values()]
    engines += [piper.from_file(path) for path in dict.fromkeys(piper_voices)]
    names = [engine.name for engine in engines]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SynthError(
            f"{twice}: two voice files of this name. "
            "Rename one, or give all of its speakers at once: VOICE.onnx#0-99."
        )
    lacks = [(engine, engine.missing()) for engine in engines]
    for engine, lack in lacks:
        if lack and (engine.name in wanted or engine.name not in ENGINES):
            raise SynthError(f"{engine.name} needs {lack}. {engine.install}")
    ready = tuple(engine for engine, lack in lacks if not lack)
    if not ready:
        needs = "; ".join(f"{engine.name} needs {lack}: {engine.install}" for engine, lack in lacks)
        raise SynthError(
            "no speech engine is installed. Install one or more; Kokoro has the "
            f"most voices. {needs}"
        )
    return Found(ready, tuple((engine, lack) for engine, lack in lacks if lack))
