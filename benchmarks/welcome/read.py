"""Gives a trained "welcome" its reader, and calibrates both together.

    python benchmarks/welcome/speak.py --out WORK/spoken
    python benchmarks/welcome/read.py --data DATA --work WORK --model models/welcome.onnx

DATA and WORK as for `train.py`, whose models have a reader already: this is for the network that is shipped, which was trained before.
"""

import argparse
import pathlib

from train import WORD, gather, unpack

from kws.engine import OnnxEngine
from kws.synth.neighbours import pronunciations
from kws.training import trunk
from kws.training.export import export
from kws.training.session import calibrated
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
    material = gather(unpack(args.data, args.work / "data"), args.work / "spoken")
    known = calibrated(network, material, out.with_suffix(".basis.onnx"), reading)
    export(network, {**document, **known}, out, reading)


if __name__ == "__main__":
    main()
