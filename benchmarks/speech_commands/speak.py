"""Synthesizes what the clips of a protocol lack: its words in other voices, other words of Speech
Commands, words that sound like its own, and common words.

    python benchmarks/speech_commands/speak.py --out DATA/spoken_words [--protocol sc-8]

Uses the engines of `kws synth`; those that are missing are named and left out. The common words are
those of other_words.txt. The words that sound like those of the protocol come from
`kws confusables`. Neither kind sounds the same as a word of Speech Commands. Writes WORD/*.wav,
named after voices, and clips.csv. Clips that are there are not made again.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws.synth.confusables import CONTAINING, find_confusables
from kws.synth.engines import registry
from kws.synth.plan import plan_clips
from kws.synth.pronunciation import phonemize
from kws.synth.render import speak
from kws.training.speech_commands.protocols import PROTOCOLS, WORDS

OTHER_WORDS = Path(__file__).parent / "other_words.txt"
CLIPS = {"known": 120, "other": 60, "near": 6, "common": 2}  # of each word


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--protocol", choices=("pack-9", "sc-8"), default="pack-9")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one per core)")
    args = parser.parse_args()
    selection = registry.select_engines()
    for engine, requirement in selection.unavailable:
        print(f"not used: {engine.name} needs {requirement}: {engine.install}")
    clips = [
        clip
        for kind, words in list_words(args.protocol).items()
        for clip in plan_clips(words, CLIPS[kind], selection.available, seed=0)
    ]
    result = speak(clips, selection.available, args.out, jobs=args.jobs)
    print(f"{args.out}: {len(result.clips)} clips, {len(result.failed)} failed")
    for message in result.error_messages[:5]:
        print(f"  {message}")


def list_words(protocol: str) -> dict[str, list[str]]:
    """The words by kind, none twice."""
    known = PROTOCOLS[protocol].words
    excluded = {phonemize(word) for word in WORDS["0.02"]}
    confusables = {
        each.text
        for word in known
        for each in find_confusables(word, max_near=50)
        if each.kind != CONTAINING
    }
    near = sorted(word for word in confusables if phonemize(word) not in excluded)
    return {
        "known": list(known),
        "other": [word for word in WORDS["0.02"] if word not in known],
        "near": near,
        "common": [
            word
            for word in OTHER_WORDS.read_text().split()
            if word not in near and phonemize(word) not in excluded
        ],
    }


if __name__ == "__main__":
    main()
