"""Makes the shipped model: speaks the clips, trains in two rounds, calibrates, settles, writes
`welcome.onnx` and `welcome.pt`.

One command from the recordings and the engines of `kws synth` (docs/how-to/install-voices.md) to the model,
about an hour on two cores:

    python recipes/welcome/train.py --data DATA --work WORK --out models/welcome.onnx

DATA holds the recordings, one folder or tar archive a set: speech_commands, librispeech,
wake_words, precise_community, custom_commands, honk (negatives), esc10, rir_noise (noises and
rooms). WORK keeps what is unpacked and spoken for the next time.
"""

import argparse
import json
import logging
import pathlib
import subprocess
import sys
import tarfile
from dataclasses import replace

import numpy as np
import torch

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

HERE = pathlib.Path(__file__).parent
WORD = "welcome"
# How often a source is drawn from: the spoken neighbours most, since no recording holds them.
NEGATIVES = {
    "speech_commands": 0.22,
    "librispeech": 0.2,
    "wake_words": 0.06,
    "precise_community": 0.08,
    "custom_commands": 0.04,
    "honk": 0.04,
}
# Of wake_words: more hours to calibrate on, and of words that were never learned.
HELD_OUT_PHRASES = ("snowboy", "view_glass")
SPOKEN_NEGATIVES = {"neighbours": 0.36, "sentences": 0.08}
SPOKEN_WORDS = {"word": aligned_word, "spoken_in": unaligned_word}
CONFIG = NetworkConfig((WORD,))
RECIPE = TrainConfig()  # of the first round
NEIGHBOURS_THAT_FIRE = 0.03  # at most, of those spoken by the voices of validation


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the recordings")
    parser.add_argument(
        "--work", type=pathlib.Path, required=True, help="folder for what is unpacked and spoken"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("models/welcome.onnx"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, spoken = unpack(args.data, args.work / "data"), args.work / "spoken"
    subprocess.run([sys.executable, HERE / "speak.py", "--out", spoken], check=True)
    begun = pretrained.shipped_checkpoint()
    model_card = {
        "sources": json.loads((HERE / "sources.json").read_text()),
        **pretrained.model_card(begun),
    }
    keyword_data = gather(data, spoken)
    config = replace(CONFIG, band_channels=pretrained.band_channels(begun))
    init_from = pretrained.init_from_pretrained(config, begun, RECIPE.seed)
    how = {
        "init_from": init_from,
        "resume": args.resume,
        "progress": PrintedEpochs(),
        "model_card": model_card,
        "verifier_candidates": [pretrained.load_verifier({WORD: pronunciations(WORD)})],
    }
    train_two_stage(keyword_data, config, RECIPE, args.out, device=torch.device("cpu"), **how)
    settle(args.out, read(spoken / "validation" / "neighbours"))
    shed_optimiser(args.out.with_suffix(".pt"))


def settle(path: pathlib.Path, neighbours: ClipDataset) -> None:
    """Raises the threshold to where few of the neighbours fire: those say more of it than so few
    hours without an alarm."""
    spotter = Spotter.load(path)
    recordings = score_clips(spotter, neighbours)
    fires = np.array([count_alarms([each], WORD, THRESHOLDS) > 0 for each in recordings])
    quiet = lowest_threshold_within(fires.sum(0), NEIGHBOURS_THAT_FIRE * len(fires))
    own = int(np.searchsorted(THRESHOLDS, spotter.events.threshold[0]))
    # Where they fire at every threshold, the highest.
    at = max(own, len(THRESHOLDS) - 1 if quiet is None else quiet)
    events = {**spotter.info.document["events"], "threshold": [THRESHOLDS[at]]}
    told = {"clips": len(fires), "alarms": int(fires[:, at].sum())}
    copy_with_document(path, {**spotter.info.document, "events": events, "neighbours": told}, path)


def shed_optimiser(path: pathlib.Path) -> None:
    """A shipped checkpoint serves to run and to fine-tune: it keeps the network and its history."""
    saved = checkpoint.load(path)
    checkpoint.save(
        {
            name: saved[name]
            for name in ("network_config", "train_config", "history", "ema_network")
        },
        path,
    )


def unpack(data: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The folder of unpacked sets: `data` itself, or `target` where `data` holds archives."""
    archives = sorted(data.glob("*.tar"))
    for archive in archives:
        if not (target / archive.stem).exists():
            with tarfile.open(archive) as tar:
                tar.extractall(target / archive.stem, filter="data")
    return target if archives else data


def gather(data: pathlib.Path, spoken: pathlib.Path) -> KeywordData:
    speech = {name: read(data / name) for name in NEGATIVES}
    room_and_noise = read(data / "rir_noise")
    noises = [
        read(data / "esc10"),
        speech["speech_commands"].select(lambda clip: clip.label == BACKGROUND),
        room_and_noise.select(lambda clip: clip.label == "noise"),
    ]
    speech["speech_commands"] = speech["speech_commands"].select(
        lambda clip: clip.label != BACKGROUND
    )
    responses = room_and_noise.select(lambda clip: clip.label == "rir")
    negatives = [
        NegativeSource(dataset.select(is_learned), NEGATIVES[name])
        for name, dataset in speech.items()
    ]
    negatives += [
        NegativeSource(read(spoken / "train" / kind), weight)
        for kind, weight in SPOKEN_NEGATIVES.items()
    ]
    return KeywordData(
        names=(WORD,),
        words=tuple(
            make(WORD, read(spoken / "train" / kind)) for kind, make in SPOKEN_WORDS.items()
        ),
        negatives=tuple(negatives),
        noises=concatenate_datasets(noises),
        heldout_words=(aligned_word(WORD, read(spoken / "validation" / "word")),),
        heldout_negatives=tuple(dataset.select(is_validation) for dataset in speech.values()),
        recorded_rooms=trim_room_responses(list(responses)),
        hard_negatives=tuple(
            clip for dataset in speech.values() for clip in dataset.clips if is_learned(clip)
        ),
    )


def is_learned(clip: Clip) -> bool:
    return clip.label not in HELD_OUT_PHRASES and clip.split == "train"


def is_validation(clip: Clip) -> bool:
    return clip.label in HELD_OUT_PHRASES or clip.split == "validation"


def read(folder: pathlib.Path) -> ClipDataset:
    return load_clips(find_clips(folder), warn=print)


if __name__ == "__main__":
    main()
