"""Speaks what the clips of pack-9 lack: its seven words in other voices, other words of Speech
Commands, words that sound like the seven, and common words.

    python benchmarks/speech_commands/speak.py --out SPOKEN

Needs the engines of `kws synth`; those that are missing are named and left out. The common words
stand in other_words.txt, those that sound alike come from `kws neighbours`; none of these two kinds
sounds the same as a word of Speech Commands. Makes SPOKEN/WORD/*.wav, named after voices, and
SPOKEN/clips.csv; what is there is not spoken again.
"""

import argparse
import pathlib

from kws.synth.confusables import CONTAINING, find_confusables
from kws.synth.corpus import progress
from kws.synth.engines import registry
from kws.synth.plan import plan_clips
from kws.synth.pronunciation import phonemize
from kws.synth.render import speak
from kws.training.speech_commands.protocols import PROTOCOLS, WORDS

COMMON = (pathlib.Path(__file__).parent / "other_words.txt").read_text().split()
CLIPS = {"known": 120, "other": 60, "near": 6, "common": 2}  # of each word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=0)
    args = parser.parse_args()
    found = registry.found()
    for engine, requirement in found.unavailable:
        print(f"not used: {engine.name} needs {requirement}: {engine.install}")
    clips = [
        clip
        for kind, words in word_lists().items()
        for clip in plan_clips(words, CLIPS[kind], found.available, seed=0)
    ]
    result = speak(clips, found.available, args.out, progress=progress, jobs=args.jobs)
    print(
        f"{args.out}: {len(result.clips)} clips, {len(result.failed)} failed",
        *result.error_messages[:5],
        sep="\n  ",
    )


def word_lists() -> dict[str, list[str]]:
    """The words by kind, none twice."""
    known = PROTOCOLS["pack-9"].words
    barred = {phonemize(word) for word in WORDS["0.02"]}
    near = {
        each.text: phonemize(each.text)
        for word in known
        for each in find_confusables(word, max_near=50)
        if each.kind != CONTAINING
    }
    near = {word: sound for word, sound in near.items() if sound not in barred}
    common = [word for word in COMMON if word not in near and phonemize(word) not in barred]
    other = [word for word in WORDS["0.02"] if word not in known]
    return {"known": list(known), "other": other, "near": sorted(near), "common": common}


if __name__ == "__main__":
    main()
