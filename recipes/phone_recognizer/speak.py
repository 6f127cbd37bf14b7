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
from kws.synth.plan import plan_clips
from kws.synth.pronunciation import phonemize
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
    quick = [engine for engine in found.available if engine.name != "kokoro"]
    slow = [engine for engine in found.available if engine.name == "kokoro"]
    every = nonsense((len(slow) + CHEAP) * args.phrases)
    shares = np.array_split(every[args.phrases * len(slow) :], len(quick))
    clips = plan_clips(every[: args.phrases * len(slow)], 1, slow, seed=0) if slow else []
    clips += [
        clip
        for engine, phrases in zip(quick, shares, strict=True)
        for clip in plan_clips(list(phrases), 1, [engine], seed=0)
    ]
    result = speak(clips, found.available, args.out, progress=progress, jobs=args.jobs)
    print(
        f"{args.out}: {len(result.clips)} clips, {len(result.failed)} failed",
        *result.error_messages[:5],
        sep="\n  ",
    )


def nonsense(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    barred = {phonemize(word) for word in HELD_OUT}
    common = [word for word in COMMON if phonemize(word) not in barred]
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
