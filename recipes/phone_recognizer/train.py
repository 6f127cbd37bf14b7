"""Trains phone recognisers: the encoders that other trainings start from, and the verifier.

    python recipes/phone_recognizer/speak.py --out DATA/spoken_sentences --corpus DATA/sentences
    python recipes/phone_recognizer/transcribe.py --data DATA
    python recipes/phone_recognizer/train.py --data DATA --out models/phone_recognizer.pt
        --size verifier [--leave-out WORDS.txt] [--epochs 36] [--resume]
    python recipes/phone_recognizer/train.py --data DATA --out models/encoder.pt
        --size small

DATA has one folder per data set. Training uses the training speakers of sentences (a corpus with
transcripts), of librispeech (as Whisper wrote it down), of speech_commands and
speech_commands_more, and of precise_community, custom_commands and honk where the phrase is known;
the training voices of spoken_sentences; and noise of esc10. Not used are wake_words, the six words
of Speech Commands that protocol pack-9-unseen holds out, and what people say with a word of
WORDS.txt in it: these are for evaluation. Validation uses sentences of the validation speakers. The
encoders that come with kws were trained by earlier versions of this script
(docs/explanation/phone-pretraining.md).
"""

import argparse
import json
import logging
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws.audio.endpoints import find_endpoints
from kws.audio.recordings import SAMPLE_RATE
from kws.synth.pronunciation import phonemize
from kws.training.augment.rooms import make_rooms
from kws.training.data.clips import BACKGROUND, Clip, find_clips
from kws.training.data.dataset import ClipDataset, load_clips, pack_clips
from kws.training.data.transcripts import read_corpus
from kws.training.fit.config import bfloat16_devices
from kws.training.fit.progress import PrintedEpochs
from kws.training.model import checkpoint
from kws.training.model.network import SIZES
from kws.training.model.phone_set import to_phones
from kws.training.model.torch_engine import load_network
from kws.training.phones import objective
from kws.training.phones.objective import PhoneTrainConfig
from kws.training.phones.utterances import UtteranceDataset, Utterances
from kws.training.speech_commands.protocols import HELD_OUT
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
MAX_SEGMENT_SECONDS = 15.0
MIN_PROBABILITY = 0.4  # of each word of a segment, by the recogniser
PAUSE_SECONDS = 0.15
SOUND_DROP_DB = 40.0  # below the loudest frame sound counts as silence
SILENCE_SECONDS = 0.15  # kept before and after a sentence
VALIDATION_STEP = 3
SHAPES = {
    **SIZES,
    "verifier": {"channels": 320, "kernels": (5, 5, 7, 7, 9, 9, 11, 11, 13, 13)},
}
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
    parser.add_argument("--size", choices=SHAPES, default="small")
    parser.add_argument("--epochs", type=int, default=PhoneTrainConfig.epochs)
    parser.add_argument("--leave-out", type=Path, help="words that no person is heard to say")
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
    config = objective.make_phone_recognizer_config(
        band_channels=BAND_CHANNELS, **SHAPES[args.size]
    )
    sources = load_sources(args.data, read_words(args.leave_out))
    for source in sources:
        hours = source.dataset.seconds / 3600
        print(f"{len(source.dataset)} clips, {hours:.2f} h: {source.phonemes[:3]}", flush=True)
    noises = load_clips(find_clips(args.data / "esc10"), warn=print)
    objective.train(
        UtteranceDataset(
            sources,
            noises,
            batch_seconds=train_config.batch * train_config.clip_seconds,
            seed=train_config.seed,
        ),
        load_validation(args.data),
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


def read_words(path: Path | None) -> frozenset[str]:
    return frozenset(path.read_text().split() if path else ())


def load_sources(data: Path, left_out: frozenset[str]) -> list[Utterances]:
    """What the network is trained on, with the share of the audio of each source."""
    folders = [data / name for name in ("speech_commands", "speech_commands_more")]
    commands = [
        clip for folder in folders for clip in find_clips(folder) if clip.label not in HELD_OUT
    ]
    return [
        load_sentences(data / "sentences", "train", 0.6, left_out),
        load_sentences(data / "spoken_sentences", "train", 0.15),
        load_librispeech(data, 0.1, left_out),
        load_commands(commands, 0.12, left_out),
        *load_phrases(data, 0.03, left_out),
    ]


def says_any(text: str, words: frozenset[str]) -> bool:
    """Whether a text holds one of the words, or a word that contains its letters or its phones."""
    return any(
        word in spoken or phones_of(word) in phones_of(spoken)
        for spoken in re.findall(r"[a-z']+", text.lower())
        for word in words
    )


@cache
def phones_of(word: str) -> str:
    return to_phones(phonemize(word))


def load_sentences(
    corpus: Path, split: str, weight: float, left_out: frozenset[str] = frozenset()
) -> Utterances:
    """The English sentences of a corpus by the speakers of a split."""
    utterances = [
        each
        for each in read_corpus(corpus, warn=print)
        if each.is_english and each.split == split and not says_any(each.text, left_out)
    ]
    dataset = load_clips([each.clip for each in utterances], warn=print)
    waves = [crop_to_sound(dataset.int16_clip(index)) for index in range(len(dataset))]
    phonemes = tuple(to_phones(phonemize(clip.label)) for clip in dataset.clips)
    return Utterances(pack_clips(dataset.clips, waves), phonemes, weight)


def load_validation(data: Path) -> Utterances:
    """Every third sentence of the validation speakers."""
    sentences = load_sentences(data / "sentences", "validation", 1.0)
    chosen = range(0, len(sentences.dataset), VALIDATION_STEP)
    dataset = pack_clips(
        [sentences.dataset.clips[index] for index in chosen],
        [sentences.dataset.int16_clip(index) for index in chosen],
    )
    return Utterances(dataset, sentences.phonemes[::VALIDATION_STEP], 1.0)


def crop_to_sound(samples: np.ndarray) -> np.ndarray:
    """A recording [n] without most of the silence around it, in which a recogniser would learn to
    wait."""
    start, end = find_endpoints(samples.astype(np.float32), drop_db=SOUND_DROP_DB)
    first = round((start - SILENCE_SECONDS) * SAMPLE_RATE)
    return samples[max(first, 0) : round((end + SILENCE_SECONDS) * SAMPLE_RATE)]


def load_librispeech(data: Path, weight: float, left_out: frozenset[str]) -> Utterances:
    """Segments by the training readers."""
    dataset = load_clips(
        [clip for clip in find_clips(data / "librispeech") if clip.split == "train"], warn=print
    )
    transcripts = {}
    for line in (data / "librispeech.jsonl").read_text().splitlines():
        transcript = json.loads(line)
        transcripts[transcript["file"]] = [Word(*word) for word in transcript["words"]]
    clips, waves, phonemes = [], [], []
    for index, clip in enumerate(dataset.clips):
        samples = dataset.int16_clip(index)
        for segment in cut_segments(transcripts.get(clip.path.name, [])):
            if says_any(segment.text, left_out):
                continue
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


def load_commands(clips: list[Clip], weight: float, left_out: frozenset[str]) -> Utterances:
    """The words of Speech Commands by training speakers."""
    chosen = [
        clip
        for clip in clips
        if clip.split == "train" and clip.label not in (BACKGROUND, *left_out)
    ]
    return label_by_folder(load_clips(chosen, warn=print), weight)


def load_phrases(data: Path, weight: float, left_out: frozenset[str]) -> list[Utterances]:
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
            [
                clip
                for clip in clips
                if clip.split == "train" and not says_any(phrase_of(clip), left_out)
            ],
            max_seconds=2.5,
            max_unreadable_fraction=1.0,
            warn=lambda message: None,
        )
        for clips in (community, custom, honk)
    ]
    return [label_by_folder(dataset, weight / len(datasets)) for dataset in datasets if dataset]


def phrase_of(clip: Clip) -> str:
    """What is said in a clip, as its folder names it."""
    return PHRASE_BY_FOLDER.get(clip.label, clip.label).replace("_", " ")


def label_by_folder(dataset: ClipDataset, weight: float) -> Utterances:
    """Recordings of the phrases that their folders name."""
    phrases = [phrase_of(clip) for clip in dataset.clips]
    phonemes = {phrase: to_phones(phonemize(phrase)) for phrase in set(phrases)}
    return Utterances(dataset, tuple(phonemes[phrase] for phrase in phrases), weight)


if __name__ == "__main__":
    main()
