"""Speaks what the trunk learns to read beside people's recordings: nonsense of three words each, by
every engine that is there.

    python recipes/phone_recognizer/speak.py --out DATA/spoken_nonsense [--phrases 400]

Half of the words are common ones (speech_commands/other_words.txt), half are drawn from the
dictionary of `kws neighbours`; the words that protocol pack-9-unseen holds out are not among them.
Kokoro says each phrase once, every other engine four phrases of its own for it: they cost a tenth.
What is there is not spoken again.
"""

import argparse
import pathlib

import numpy as np

from kws.synth.corpus import progress
from kws.synth.engines import registry
from kws.synth.plan import planned
from kws.synth.pronunciation import sounds
from kws.synth.render import speak
from kws.training.speech_commands.protocols import HELD_OUT

COMMON = (
    (pathlib.Path(__file__).parents[2] / "benchmarks" / "speech_commands" / "other_words.txt")
    .read_text()
    .split()
)
CHEAP = 4  # phrases of a quick engine for one of Kokoro's, all of the quick ones together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--phrases", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=0)
    args = parser.parse_args()
    found = registry.found()
    quick = [engine for engine in found.ready if engine.name != "kokoro"]
    slow = [engine for engine in found.ready if engine.name == "kokoro"]
    every = nonsense((len(slow) + CHEAP) * args.phrases)
    shares = np.array_split(every[args.phrases * len(slow) :], len(quick))
    clips = planned(every[: args.phrases * len(slow)], 1, slow, seed=0) if slow else []
    clips += [
        clip
        for engine, phrases in zip(quick, shares, strict=True)
        for clip in planned(list(phrases), 1, [engine], seed=0)
    ]
    spoken = speak(clips, found.ready, args.out, progress=progress, jobs=args.jobs)
    print(
        f"{args.out}: {len(spoken.clips)} clips, {len(spoken.failed)} failed",
        *spoken.troubles[:5],
        sep="\n  ",
    )


def nonsense(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    barred = {sounds(word) for word in HELD_OUT}
    common = [word for word in COMMON if sounds(word) not in barred]
    rare = sorted(
        word for word, plain in common().items() if 3 <= len(plain) <= 8 and plain not in barred
    )
    phrases = [
        [str(rng.choice(words)) for words in (common, rare, common if rng.random() < 0.5 else rare)]
        for _ in range(count)
    ]
    return [" ".join(rng.permutation(phrase)) for phrase in phrases]


if __name__ == "__main__":
    main()
