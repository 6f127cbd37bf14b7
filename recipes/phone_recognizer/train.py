"""Trains networks that read, sound by sound, what people and speech engines say: the trunk that
detectors begin with, and the reader.

    python recipes/phone_recognizer/speak.py --out DATA/spoken_nonsense --phrases 1000
    python recipes/phone_recognizer/transcribe.py --data DATA
    python benchmarks/speech_commands/speak.py --out DATA/spoken_words
    python recipes/phone_recognizer/train.py --data DATA --out models/phone_recognizer.pt --size large --bands
        [--epochs 20] [--resume]

DATA holds one folder a set of recordings. Learned from are the training speakers of librispeech
(cut between words), of speech_commands, of precise_community, custom_commands and honk where it is
known what is said, and spoken nonsense and single words; noise is esc10. Not learned from:
wake_words, and the six words of Speech Commands that protocol pack-9-unseen holds out, so that both
can judge. Validated by the other readers of librispeech. The trunks that come with kws were made by
earlier states of this program (docs/explanation/phone-pretraining.md).
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from kws.audio.recordings import SAMPLE_RATE
from kws.synth.pronunciation import sounds
from kws.synth.render import read_manifest
from kws.training.augment.rooms import make_rooms
from kws.training.data.clips import BACKGROUND, Clip, find_clips
from kws.training.data.dataset import ClipDataset, load_clips, pack_clips
from kws.training.data.splits import assign_split
from kws.training.fit.config import bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model import checkpoint
from kws.training.model.network import SIZES
from kws.training.model.phone_set import to_phones
from kws.training.model.torch_engine import load_network
from kws.training.phones import objective
from kws.training.phones.utterances import UtteranceDataset, Utterances
from kws.training.speech_commands.protocols import HELD_OUT, PACK_WORDS
from kws.training.speech_commands.train import BAND_CHANNELS

HERE = pathlib.Path(__file__).parent
SAID = {  # folder: what is said in it, where that is not its name
    "heychatterbox": "hey chatterbox",
    "heycomputer": "hey computer",
    "en-us": "hey chatterbox",
    **{
        name: name.replace("_", " ")
        for name in ("how_are_you", "hey_fenrir", "hey_archie", "trick_or_treat")
    },
}
LABELLED = {"precise_community": ("amelia", "athena", "computer", "heychatterbox", "heycomputer")}
PIECE_SECONDS = 2.2
SURE = 0.4  # of each word of a piece: how probable the recogniser finds it
RECIPE = objective.PhoneTrainConfig()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--bands", action="store_true", help="a stem that looks at bands")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument(
        "--start", type=pathlib.Path, help="checkpoint of a network that reads, to learn on from"
    )
    parser.add_argument("--learning-rate", type=float, default=RECIPE.learning_rate)
    parser.add_argument("--seed", type=int, default=RECIPE.seed)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train_config = replace(
        RECIPE,
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        mixed_precision=bfloat16_devices(),
        seed=args.seed,
    )
    config = objective.make_phone_recognizer_config(
        band_channels=BAND_CHANNELS * args.bands, **SIZES[args.size]
    )
    sources = [
        librispeech(args.data, lambda speaker: assign_split(speaker) == "train", 0.35),
        commands(args.data, 0.12, lambda word: word in PACK_WORDS),
        commands(args.data, 0.08, lambda word: word not in (*PACK_WORDS, *HELD_OUT)),
        *labelled(args.data, 0.12),
        spoken(args.data / "spoken_nonsense", 0.33),
        spoken(args.data / "spoken_words", 0.15, lambda text: text not in HELD_OUT),
    ]
    for source in sources:
        print(
            len(source.dataset),
            f"{source.dataset.seconds / 3600:.2f} h",
            source.sounds[:3],
            flush=True,
        )
    noises = load_clips(find_clips(args.data / "esc10"), warn=print)
    shape = {
        "samples": round(train_config.clip_seconds * SAMPLE_RATE),
        "lead_samples": round(0.9 * SAMPLE_RATE),
        "batch": train_config.batch,
    }
    heldout = UtteranceDataset(
        [librispeech(args.data, lambda speaker: assign_split(speaker) != "train", 1.0)],
        noises,
        seed=1,
        **shape,
    )
    objective.train(
        UtteranceDataset(sources, noises, seed=train_config.seed, **shape),
        heldout,
        torch.from_numpy(make_rooms()),
        train_config,
        config,
        args.out,
        init_from=load_network(args.start) if args.start else None,
        resume=args.resume,
        progress=PrintedEpochs(),
    )
    saved = checkpoint.load(args.out)
    kept = {
        name: saved[name]
        for name in (
            "network_config",
            "train_config",
            "fingerprint",
            "init_digest",
            "history",
            "provenance",
            "ema_network",
        )
    }  # no optimiser: to begin with, not to go on
    checkpoint.save({**kept, "sources": json.loads((HERE / "sources.json").read_text())}, args.out)


def librispeech(data: pathlib.Path, keep: Callable[[str], bool], weight: float) -> Utterances:
    """Pieces of at most `PIECE_SECONDS`, cut in the middle between two words."""
    dataset = load_clips(
        [clip for clip in find_clips(data / "librispeech") if keep(clip.speaker)], warn=print
    )
    words = {
        row["file"]: row["words"]
        for row in map(json.loads, (data / "librispeech.jsonl").read_text().splitlines())
    }
    clips, waves, said = [], [], []
    for index, clip in enumerate(dataset.clips):
        samples = dataset.samples[dataset.starts[index] : dataset.starts[index + 1]]
        for first, last, text in pieces(words.get(clip.path.name, [])):
            clips.append(clip)
            waves.append(samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)])
            said.append(to_phones(sounds(text)))
    return utterances(clips, waves, said, weight)


def pieces(words: list[list]) -> list[tuple[float, float, str]]:
    """Start, end (seconds) and text of stretches of sure words."""
    found, piece = [], []
    for i, word in enumerate(words):
        piece.append((i, word))
        ahead = words[i + 1] if i + 1 < len(words) else None
        pause = ahead is None or ahead[1] - word[2] > 0.15
        if pause or ahead[2] - piece[0][1][1] > PIECE_SECONDS:
            if all(each[3] > SURE for _, each in piece):
                before = words[piece[0][0] - 1][2] if piece[0][0] else 0.0
                after = ahead[1] if ahead else word[2] + 0.1
                start = max((before + piece[0][1][1]) / 2, piece[0][1][1] - 0.15)
                found.append(
                    (
                        start,
                        min((after + word[2]) / 2, word[2] + 0.15),
                        " ".join(each[0] for _, each in piece),
                    )
                )
            piece = []
    return found


def commands(data: pathlib.Path, weight: float, keep: Callable[[str], bool]) -> Utterances:
    clips = [
        clip
        for clip in find_clips(data / "speech_commands")
        if keep(clip.label) and clip.label != BACKGROUND and clip.split == "train"
    ]
    return named(load_clips(clips, warn=print), weight)


def labelled(data: pathlib.Path, weight: float) -> list[Utterances]:
    """Of other data sets the recordings of known phrases."""
    community = find_clips(data / "precise_community")
    known = [
        Clip(clip.path, name, clip.speaker)
        for clip in community
        for name in LABELLED["precise_community"]
        if name in clip.path.parts
    ]
    custom = find_clips(data / "custom_commands")
    honk = [clip for clip in find_clips(data / "honk") if clip.label == "anserini"]
    datasets = [
        load_clips(
            [clip for clip in clips if clip.split == "train"],
            max_seconds=2.5,
            max_unreadable_fraction=1.0,
            warn=lambda text: None,
        )
        for clips in (known, custom, honk)
    ]
    return [named(dataset, weight / len(datasets)) for dataset in datasets if len(dataset)]


def spoken(
    folder: pathlib.Path, weight: float, keep: Callable[[str], bool] = lambda text: True
) -> Utterances:
    text = {folder / row["file"]: row["text"] for row in read_manifest(folder) if keep(row["text"])}
    dataset = load_clips(
        [clip for clip in find_clips(folder) if clip.path in text],
        max_seconds=2.7,
        max_unreadable_fraction=0.3,
        warn=lambda text: None,
    )
    return Utterances(
        dataset, tuple(to_phones(sounds(text[clip.path])) for clip in dataset.clips), weight
    )


def named(dataset: ClipDataset, weight: float) -> Utterances:
    """Recordings of what their folder says."""
    said = {
        label: to_phones(sounds(SAID.get(label, label)))
        for label in {clip.label for clip in dataset.clips}
    }
    return Utterances(dataset, tuple(said[clip.label] for clip in dataset.clips), weight)


def utterances(
    clips: list[Clip], waves: list[np.ndarray], said: list[str], weight: float
) -> Utterances:
    return Utterances(pack_clips(clips, waves), tuple(said), weight)


if __name__ == "__main__":
    main()
