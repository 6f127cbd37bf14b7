"""Gives a trained "welcome" its reader, and calibrates both together.

    python benchmarks/welcome/speak.py --out WORK/spoken
    python benchmarks/welcome/read.py --data DATA --work WORK --model models/welcome.onnx

DATA and WORK as for `train.py`, whose models have a reader already: this is for the network that is shipped, which was trained before.
"""

import argparse
import pathlib
from dataclasses import asdict, replace

import numpy as np
from train import WORD, gather, unpack

from kws.engine import OnnxEngine
from kws.synth.neighbours import pronunciations
from kws.training import trials, trunk
from kws.training.calibrate import calibrate, default_threshold
from kws.training.export import export
from kws.training.material import heldout_waves
from kws.training.torch_engine import load_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("models/welcome.onnx"))
    parser.add_argument("--out", type=pathlib.Path, help="default: the model itself")
    args = parser.parse_args()
    out, network = args.out or args.model, load_network(args.model.with_suffix(".pt"))
    reading = trunk.reading({WORD: pronunciations(WORD)})
    document = OnnxEngine(str(args.model), alone=True).info.document
    export(network, document, out, reading)
    engine, material = OnnxEngine(str(out)), gather(unpack(args.data, args.work / "data"), args.work / "spoken")
    (word,) = material.heldout_words
    made = trials.word_trials(engine, [word.bank[i] for i in range(len(word.bank))], word.placed)
    silence = trials.listen(engine, heldout_waves(material))
    table = calibrate(engine, [made], silence, material.heldout_hours, engine.info.events)
    settings = replace(engine.info.events, threshold=(default_threshold(table, WORD),))
    known = [(trials.decision(trial, 0, (WORD,), settings), trial.end) for trial in made]
    latency = round(float(np.median([decided[1] - end for decided, end in known if decided])), 3)
    export(network, {**document, "events": asdict(settings), "calibration": table, "latency_seconds": latency}, out, reading)


if __name__ == "__main__":
    main()
