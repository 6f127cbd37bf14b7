"""Makes the shipped model "welcome": synthesizes the clips, trains in two stages, calibrates,
raises the threshold, and writes welcome.kws and welcome.pt.

    python recipes/welcome/train.py --data DATA --work WORK --out models/welcome.kws

Needs the engines of `kws synth` (docs/how-to/install-voices.md), and takes about an hour on two
cores. DATA has one folder or tar archive per data set: speech_commands, librispeech, wake_words,
precise_community, custom_commands, honk, music (negatives); esc10, rir_noise (noises and rooms).
`python recipes/music/render.py --out DATA/music --without welcome` makes music, in two minutes.
WORK keeps what is unpacked and synthesized for the next time.
"""

import argparse
import json
import logging
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kws import Spotter
from kws.synth.confusables import pronunciations
from kws.training.augment.rooms import trim_room_responses
from kws.training.data.clips import BACKGROUND, Clip, find_clips
from kws.training.data.dataset import ClipDataset, concatenate_datasets, load_clips
from kws.training.data.keyword_data import KeywordData
from kws.training.data.sources import NegativeSource, aligned_word, unaligned_word
from kws.training.detection.two_stage import train_two_stage
from kws.training.evaluate.calibration import THRESHOLDS, lowest_threshold_within
from kws.training.evaluate.scoring import count_alarms, score_clips
from kws.training.fit.config import TrainConfig
from kws.training.fit.progress import PrintedEpochs
from kws.training.model import checkpoint, pretrained
from kws.training.model.document import copy_with_document
from kws.training.model.network import NetworkConfig

HERE = Path(__file__).parent
WORD = "welcome"
# How often each source is drawn: confusables most, as they are in no recording.
NEGATIVES = {
    "speech_commands": 0.22,
    "librispeech": 0.2,
    "wake_words": 0.06,
    "precise_community": 0.08,
    "custom_commands": 0.04,
    "honk": 0.04,
    "music": 0.06,
}
SYNTHETIC_NEGATIVES = {"confusables": 0.36, "sentences": 0.08}
# Phrases of wake_words that are not trained on: more hours to calibrate with.
HELD_OUT_PHRASES = ("snowboy", "view_glass")
MAX_FIRING_CONFUSABLES = 0.03  # of the confusables by the voices of validation
CHECKPOINT_KEYS = ("network_config", "train_config", "history", "ema_network")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder of intermediate files")
    parser.add_argument("--out", type=Path, default=Path("models/welcome.kws"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, synth = unpack(args.data, args.work / "data"), args.work / "synth"
    subprocess.run([sys.executable, HERE / "speak.py", "--out", synth], check=True)
    encoder = pretrained.shipped_checkpoint()
    if encoder is None:
        raise SystemExit(f"models/{pretrained.ENCODER_FILE} is missing: restore it.")
    config = NetworkConfig((WORD,), band_channels=pretrained.band_channels(encoder))
    train_config = TrainConfig()  # of the first stage
    train_two_stage(
        load_keyword_data(data, synth),
        config,
        train_config,
        args.out,
        device=torch.device("cpu"),
        resume=args.resume,
        init_from=pretrained.init_from_pretrained(config, encoder, train_config.seed),
        progress=PrintedEpochs(),
        model_card={
            "sources": json.loads((HERE / "sources.json").read_text()),
            **pretrained.model_card(encoder),
        },
        verifier_candidates=[pretrained.load_verifier({WORD: pronunciations(WORD)})],
    )
    raise_threshold(args.out, read_clips(synth / "validation" / "confusables"))
    drop_optimiser(args.out.with_suffix(".pt"))


def raise_threshold(path: Path, confusables: ClipDataset) -> None:
    """Raises the default threshold of a model to where few of the confusables fire. They tell more
    about a threshold than a few hours without a false alarm."""
    spotter = Spotter.load(path)
    scored = score_clips(spotter, confusables)
    fires = np.array([count_alarms([each], WORD, THRESHOLDS) > 0 for each in scored])
    lowest = lowest_threshold_within(fires.sum(0), MAX_FIRING_CONFUSABLES * len(fires))
    if lowest is None:
        lowest = len(THRESHOLDS) - 1
    at = max(lowest, int(np.searchsorted(THRESHOLDS, spotter.events.threshold[0])))
    document = {
        **spotter.info.document,
        "events": {**spotter.info.document["events"], "threshold": [THRESHOLDS[at]]},
        "confusables": {"clips": len(fires), "alarms": int(fires[:, at].sum())},
    }
    copy_with_document(path, document, path)


def drop_optimiser(path: Path) -> None:
    """A shipped checkpoint serves to run and to fine-tune: it keeps the network and its history."""
    saved = checkpoint.load(path)
    checkpoint.save({key: saved[key] for key in CHECKPOINT_KEYS}, path)


def unpack(data: Path, target: Path) -> Path:
    """The folder of unpacked data sets: `data` itself, or `target` where `data` has archives."""
    archives = sorted(data.glob("*.tar"))
    for archive in archives:
        if not (target / archive.stem).exists():
            with tarfile.open(archive) as tar:
                tar.extractall(target / archive.stem, filter="data")
    return target if archives else data


def load_keyword_data(data: Path, synth: Path) -> KeywordData:
    """All that the model is trained and validated on."""
    speech = {name: read_clips(data / name) for name in NEGATIVES}
    commands, rir_noise = speech["speech_commands"], read_clips(data / "rir_noise")
    speech["speech_commands"] = commands.select(lambda clip: clip.label != BACKGROUND)
    noises = [
        read_clips(data / "esc10"),
        commands.select(lambda clip: clip.label == BACKGROUND),
        rir_noise.select(lambda clip: clip.label == "noise"),
    ]
    people = [
        NegativeSource(dataset.select(is_trained_on), NEGATIVES[name])
        for name, dataset in speech.items()
    ]
    synthetic = [
        NegativeSource(read_clips(synth / "train" / kind), weight)
        for kind, weight in SYNTHETIC_NEGATIVES.items()
    ]
    return KeywordData(
        names=(WORD,),
        words=(
            aligned_word(WORD, read_clips(synth / "train" / "word")),
            unaligned_word(WORD, read_clips(synth / "train" / "in_context")),
        ),
        negatives=(*people, *synthetic),
        noises=concatenate_datasets(noises),
        heldout_words=(aligned_word(WORD, read_clips(synth / "validation" / "word")),),
        heldout_negatives=tuple(dataset.select(is_validation) for dataset in speech.values()),
        recorded_rooms=trim_room_responses(
            list(rir_noise.select(lambda clip: clip.label == "rir"))
        ),
        hard_negatives=tuple(
            clip for dataset in speech.values() for clip in dataset.clips if is_trained_on(clip)
        ),
    )


def is_trained_on(clip: Clip) -> bool:
    return clip.label not in HELD_OUT_PHRASES and clip.split == "train"


def is_validation(clip: Clip) -> bool:
    return clip.label in HELD_OUT_PHRASES or clip.split == "validation"


def read_clips(folder: Path) -> ClipDataset:
    return load_clips(find_clips(folder), warn=print)


if __name__ == "__main__":
    main()
