"""All speech engines, and which of them are installed."""

from collections.abc import Sequence
from dataclasses import dataclass

from kws.errors import SynthError
from kws.synth.engines import espeak, festival, flite, hibari, kokoro, pico, piper
from kws.synth.engines.base import SpeechEngine

ENGINES = {
    module.ENGINE.name: module.ENGINE
    for module in (kokoro, piper, hibari, pico, flite, espeak, festival)
}


@dataclass(frozen=True)
class EngineSelection:
    """Engines that can speak, and the others with what they lack."""

    available: tuple[SpeechEngine, ...]
    unavailable: tuple[tuple[SpeechEngine, str], ...]


def select_engines(
    requested: Sequence[str] = (), piper_voices: Sequence[str] = ()
) -> EngineSelection:
    """All engines, or those that are requested by name, and the Piper voice files of a user.

    Raises SynthError for an unknown engine, for a requested engine that is not installed, and where
    no engine is installed.
    """
    unknown = [name for name in requested if name not in ENGINES]
    if unknown:
        raise SynthError(f"'{unknown[0]}' is no engine. There are {', '.join(ENGINES)}.")
    engines = (
        [ENGINES[name] for name in dict.fromkeys(requested)] if requested else [*ENGINES.values()]
    )
    engines += [piper.engine_from_voice_file(path) for path in dict.fromkeys(piper_voices)]
    names = [engine.name for engine in engines]
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise SynthError(
            f"{duplicate}: two voice files of this name. "
            "Rename one, or give all of its speakers at once: VOICE.onnx#0-99."
        )
    requirements = [(engine, engine.missing()) for engine in engines]
    for engine, requirement in requirements:
        if requirement and (engine.name in requested or engine.name not in ENGINES):
            raise SynthError(f"{engine.name} needs {requirement}. {engine.install}")
    available = tuple(engine for engine, requirement in requirements if not requirement)
    if not available:
        needs = "; ".join(
            f"{engine.name} needs {requirement}: {engine.install}"
            for engine, requirement in requirements
        )
        raise SynthError(
            "no speech engine is installed. Install one or more; Kokoro has the "
            f"most voices. {needs}"
        )
    return EngineSelection(
        available,
        tuple((engine, requirement) for engine, requirement in requirements if requirement),
    )
