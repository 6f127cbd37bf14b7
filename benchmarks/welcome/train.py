"""Makes the shipped model: speaks the clips, trains, calibrates, writes `welcome.onnx` and `welcome.pt`.

One command from the recordings and a speech synthesis script to the model, about an hour and a half on two cores:

    python benchmarks/welcome/train.py --data DATA --synth SYNTH.py --voices KOKORO_VOICES --work WORK --out models/welcome.onnx

DATA holds the recordings, one folder or tar archive a set: speech_commands, librispeech, wake_words, precise_community,
custom_commands, honk (negatives), esc10, rir_noise (noises and rooms). WORK keeps what is unpacked and spoken for the next time.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import torch

from kws.training import checkpoint, session
from kws.training.augment import recorded_rooms, simulated_rooms
from kws.training.clips import BACKGROUND, Bank, Clip, find_clips, pack, read_bank
from kws.training.fit import Recipe
from kws.training.material import Material
from kws.training.mixing import Source, placed_word, unplaced_word
from kws.training.network import NetworkConfig

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
HELD_OUT_PHRASES = ("snowboy", "view_glass")  # of wake_words: more hours to calibrate on, and of words that were never learned
SPOKEN_NEGATIVES = {("train", "neighbours"): 0.2, ("wide", "neighbours"): 0.16, ("train", "sentences"): 0.05, ("wide", "sentences"): 0.03}
SPOKEN_WORDS = {"word": placed_word, "spoken_in": unplaced_word}
LEARNED, PARTS = ("train", "wide"), ("train", "wide", "validation", "test")  # of the spoken clips
CONFIG = NetworkConfig((WORD,))
RECIPE = Recipe(epochs=28, steps_per_epoch=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, what in (("data", "folder of the recordings"), ("synth", "speech synthesis script"), ("voices", "folder of Kokoro voices")):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True, help=what)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for what is unpacked and spoken")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("models/welcome.onnx"))
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    data, spoken = unpack(args.data, args.work / "data"), args.work / "spoken"
    if not all((spoken / part / "clips.csv").exists() for part in PARTS):
        speak = [sys.executable, HERE / "speak.py", "--synth", args.synth, "--voices", args.voices, "--out", spoken]
        subprocess.run(speak, check=True)
    card = {"sources": json.loads((HERE / "sources.json").read_text())}
    hooks = session.Hooks(epoch=lambda entry: print(json.dumps(entry), flush=True), say=print)
    material = gather(data, spoken)
    session.train(material, CONFIG, RECIPE, args.out, device=torch.device("cpu"), resume=args.resume, hooks=hooks, card=card)
    shed_optimiser(args.out.with_suffix(".pt"))


def shed_optimiser(path: pathlib.Path) -> None:
    """A shipped checkpoint serves to run and to fine-tune: it keeps the network and its history."""
    saved = checkpoint.load(path)
    checkpoint.save({name: saved[name] for name in ("config", "recipe", "history", "average")}, path)


def unpack(data: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The folder of unpacked sets: `data` itself, or `target` where `data` holds archives."""
    archives = sorted(data.glob("*.tar"))
    for archive in archives:
        if not (target / archive.stem).exists():
            with tarfile.open(archive) as tar:
                tar.extractall(target / archive.stem, filter="data")
    return target if archives else data


def gather(data: pathlib.Path, spoken: pathlib.Path) -> Material:
    speech = {name: read(data / name) for name in NEGATIVES}
    room_and_noise = read(data / "rir_noise")
    noises = [
        read(data / "esc10"),
        speech["speech_commands"].select(lambda clip: clip.label == BACKGROUND),
        room_and_noise.select(lambda clip: clip.label == "noise"),
    ]
    speech["speech_commands"] = speech["speech_commands"].select(lambda clip: clip.label != BACKGROUND)
    responses = room_and_noise.select(lambda clip: clip.label == "rir")
    rooms = [simulated_rooms(400, np.random.default_rng(0)), recorded_rooms([responses[i] for i in range(len(responses))])]
    negatives = [Source(bank.select(is_learned), NEGATIVES[name]) for name, bank in speech.items()]
    negatives += [Source(read(spoken / part / kind), weight) for (part, kind), weight in SPOKEN_NEGATIVES.items()]
    return Material(
        names=(WORD,),
        words=tuple(make(WORD, read(spoken / part / kind)) for part in LEARNED for kind, make in SPOKEN_WORDS.items()),
        negatives=tuple(negatives),
        noises=joined(noises),
        heldout_words=(placed_word(WORD, read(spoken / "validation" / "word")),),
        heldout_negatives=tuple(bank.select(is_validation) for bank in speech.values()),
        rooms=torch.from_numpy(np.concatenate(rooms)),
    )


def is_learned(clip: Clip) -> bool:
    return clip.label not in HELD_OUT_PHRASES and clip.part == "train"


def is_validation(clip: Clip) -> bool:
    return clip.label in HELD_OUT_PHRASES or clip.part == "validation"


def read(folder: pathlib.Path) -> Bank:
    return read_bank(find_clips(folder), warn=print)


def joined(banks: list[Bank]) -> Bank:
    clips = [clip for bank in banks for clip in bank.clips]
    return pack(clips, [bank.samples[bank.starts[i] : bank.starts[i + 1]] for bank in banks for i in range(len(bank))])


if __name__ == "__main__":
    main()
