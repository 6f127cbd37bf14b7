"""Trains phone recognisers: the encoders that other trainings start from, and the verifier.

    python recipes/phone_recognizer/speak.py --out DATA/spoken_nonsense --phrases 1000
    python recipes/phone_recognizer/transcribe.py --data DATA
    python benchmarks/speech_commands/speak.py --out DATA/spoken_words
    python recipes/phone_recognizer/train.py --data DATA --out models/phone_recognizer.pt
        --size large --conv2d-stem [--epochs 20] [--resume]

DATA has one folder per data set. Training uses the training speakers of librispeech (cut between
words), of speech_commands, and of precise_community, custom_commands and honk where the phrase is
known; synthetic phrases and words; and noise of esc10. Not used are wake_words, and the six words
of Speech Commands that protocol pack-9-unseen holds out: both are for evaluation. Validation uses
the other readers of librispeech. The encoders that come with kws were trained by earlier versions
of this script (docs/explanation/phone-pretraining.md).
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws.audio.recordings import SAMPLE_RATE
from kws.synth.pronunciation import phonemize
from kws.synth.render import read_manifest
from kws.training.augment.rooms import make_rooms
from kws.training.data.clips import BACKGROUND, find_clips
from kws.training.data.dataset import ClipDataset, load_clips, pack_clips
from kws.training.data.splits import assign_split
from kws.training.fit.config import bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model import checkpoint
from kws.training.model.network import SIZES
from kws.training.model.phone_set import to_phones
from kws.training.model.torch_engine import load_network
from kws.training.phones import objective
from kws.training.phones.objective import PhoneTrainConfig
from kws.training.phones.utterances import UtteranceDataset, Utterances
from kws.training.speech_commands.protocols import HELD_OUT, PACK_WORDS
from kws.training.speech_commands.train import BAND_CHANNELS

SOURCES = Path(__file__).parent / "sources.json"
COMMUNITY_PHRASES = ("amelia", "athena", "computer", "heychatterbox", "heycomputer")
PHRASE_BY_FOLDER = {  # where the name of the folder is not the phrase itself
    "heychatterbox": "hey chatterbox",
    "heycomputer": "hey computer",
    "en-us": "hey chatterbox",
    "how_are_you": "how are you",
    "hey_fenrir": "hey fenrir",
    "hey_archie": "hey archie",
    "trick_or_treat": "trick or treat",
}
MAX_SEGMENT_SECONDS = 2.2
MIN_PROBABILITY = 0.4  # of each word of a segment, by the recogniser
PAUSE_SECONDS = 0.15
LEAD_SECONDS = 0.9
# What a checkpoint needs to start from; without the optimiser it cannot be resumed.
CHECKPOINT_KEYS = (
    "network_config",
    "train_config",
    "fingerprint",
    "init_digest",
    "history",
    "provenance",
    "ema_network",
)


class Word(NamedTuple):
    """A word of a transcript; times in seconds."""

    text: str
    start: float
    end: float
    probability: float


class Segment(NamedTuple):
    """A part of a recording; times in seconds."""

    start: float
    end: float
    text: str


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write (.pt)")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--conv2d-stem", action="store_true", help="use the 2-D stem")
    parser.add_argument("--epochs", type=int, default=PhoneTrainConfig.epochs)
    parser.add_argument("--init-from", type=Path, help="phone recogniser to start from (.pt)")
    parser.add_argument("--learning-rate", type=float, default=PhoneTrainConfig.learning_rate)
    parser.add_argument("--seed", type=int, default=PhoneTrainConfig.seed)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train_config = PhoneTrainConfig(
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        mixed_precision=bfloat16_devices(),
        seed=args.seed,
    )
    config = objective.make_phone_recognizer_config(**SIZES[args.size])
    if args.conv2d_stem:
        config = replace(config, band_channels=BAND_CHANNELS)
    sources = load_sources(args.data)
    for source in sources:
        hours = source.dataset.seconds / 3600
        print(f"{len(source.dataset)} clips, {hours:.2f} h: {source.phonemes[:3]}", flush=True)
    noises = load_clips(find_clips(args.data / "esc10"), warn=print)
    shape = {
        "samples": round(train_config.clip_seconds * SAMPLE_RATE),
        "lead_samples": round(LEAD_SECONDS * SAMPLE_RATE),
        "batch": train_config.batch,
    }
    heldout = load_librispeech(args.data, lambda speaker: assign_split(speaker) != "train", 1.0)
    objective.train(
        UtteranceDataset(sources, noises, seed=train_config.seed, **shape),
        UtteranceDataset([heldout], noises, seed=1, **shape),
        torch.from_numpy(make_rooms()),
        train_config,
        config,
        args.out,
        init_from=load_network(args.init_from) if args.init_from else None,
        resume=args.resume,
        progress=PrintedEpochs(),
    )
    saved = checkpoint.load(args.out)
    kept = {key: saved[key] for key in CHECKPOINT_KEYS}
    checkpoint.save({**kept, "sources": json.loads(SOURCES.read_text())}, args.out)


def load_sources(data: Path) -> list[Utterances]:
    """What the network is trained on, with how often each source is drawn."""
    return [
        load_librispeech(data, lambda speaker: assign_split(speaker) == "train", 0.35),
        load_commands(data, lambda word: word in PACK_WORDS, 0.12),
        load_commands(data, lambda word: word not in (*PACK_WORDS, *HELD_OUT), 0.08),
        *load_phrases(data, 0.12),
        load_synthetic(data / "spoken_nonsense", lambda text: True, 0.33),
        load_synthetic(data / "spoken_words", lambda text: text not in HELD_OUT, 0.15),
    ]


def load_librispeech(data: Path, keep: Callable[[str], bool], weight: float) -> Utterances:
    """Segments by the speakers to keep."""
    dataset = load_clips(
        [clip for clip in find_clips(data / "librispeech") if keep(clip.speaker)], warn=print
    )
    transcripts = {}
    for line in (data / "librispeech.jsonl").read_text().splitlines():
        transcript = json.loads(line)
        transcripts[transcript["file"]] = [Word(*word) for word in transcript["words"]]
    clips, waves, phonemes = [], [], []
    for index, clip in enumerate(dataset.clips):
        samples = dataset.int16_clip(index)
        for segment in cut_segments(transcripts.get(clip.path.name, [])):
            start, end = round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)
            clips.append(clip)
            waves.append(samples[start:end])
            phonemes.append(to_phones(phonemize(segment.text)))
    return Utterances(pack_clips(clips, waves), tuple(phonemes), weight)


def cut_segments(words: list[Word]) -> list[Segment]:
    """Segments of at most MAX_SEGMENT_SECONDS, cut halfway between two words. Those with a word
    that the recogniser is not sure of are left out."""
    segments = []
    first = 0
    for last, word in enumerate(words):
        following = words[last + 1] if last + 1 < len(words) else None
        if (
            following is None
            or following.start - word.end > PAUSE_SECONDS
            or following.end - words[first].start > MAX_SEGMENT_SECONDS
        ):
            if all(each.probability > MIN_PROBABILITY for each in words[first : last + 1]):
                segments.append(_make_segment(words, first, last))
            first = last + 1
    return segments


def _make_segment(words: list[Word], first: int, last: int) -> Segment:
    start, end = words[first].start, words[last].end
    previous_end = words[first - 1].end if first else 0.0
    next_start = words[last + 1].start if last + 1 < len(words) else end + 0.1
    return Segment(
        max((previous_end + start) / 2, start - PAUSE_SECONDS),
        min((next_start + end) / 2, end + PAUSE_SECONDS),
        " ".join(word.text for word in words[first : last + 1]),
    )


def load_commands(data: Path, keep: Callable[[str], bool], weight: float) -> Utterances:
    """The words of Speech Commands to keep, by training speakers."""
    clips = [
        clip
        for clip in find_clips(data / "speech_commands")
        if keep(clip.label) and clip.label != BACKGROUND and clip.split == "train"
    ]
    return label_by_folder(load_clips(clips, warn=print), weight)


def load_phrases(data: Path, weight: float) -> list[Utterances]:
    """The recordings of known phrases in other data sets, by training speakers."""
    community = [
        replace(clip, label=phrase)
        for clip in find_clips(data / "precise_community")
        for phrase in COMMUNITY_PHRASES
        if phrase in clip.path.parts
    ]
    custom = find_clips(data / "custom_commands")
    honk = [clip for clip in find_clips(data / "honk") if clip.label == "anserini"]
    datasets = [
        load_clips(
            [clip for clip in clips if clip.split == "train"],
            max_seconds=2.5,
            max_unreadable_fraction=1.0,
            warn=lambda message: None,
        )
        for clips in (community, custom, honk)
    ]
    return [label_by_folder(dataset, weight / len(datasets)) for dataset in datasets if dataset]


def load_synthetic(folder: Path, keep: Callable[[str], bool], weight: float) -> Utterances:
    """The clips of `kws synth` whose texts are to be kept."""
    texts = {
        folder / row["file"]: row["text"] for row in read_manifest(folder) if keep(row["text"])
    }
    dataset = load_clips(
        [clip for clip in find_clips(folder) if clip.path in texts],
        max_seconds=2.7,
        max_unreadable_fraction=0.3,
        warn=lambda message: None,
    )
    phonemes = tuple(to_phones(phonemize(texts[clip.path])) for clip in dataset.clips)
    return Utterances(dataset, phonemes, weight)


def label_by_folder(dataset: ClipDataset, weight: float) -> Utterances:
    """Recordings of the phrases that their folders name."""
    phonemes = {
        label: to_phones(phonemize(PHRASE_BY_FOLDER.get(label, label)))
        for label in {clip.label for clip in dataset.clips}
    }
    return Utterances(dataset, tuple(phonemes[clip.label] for clip in dataset.clips), weight)


if __name__ == "__main__":
    main()
