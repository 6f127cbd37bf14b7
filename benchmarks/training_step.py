"""CPU time of one training step of the network: forward, backward, optimiser. It needs no data.

    python benchmarks/training_step.py [--size small] [--steps 8] [--threads 1] [--bfloat16]

A batch is 32 clips of three seconds of noise. The least of the steps counts, as a busy machine only
adds to it. Two commits are compared by running this script in turns with PYTHONPATH at a work tree
of each.
"""

import argparse
import json
import time

import torch

from kws.training.model.network import SIZES, NetworkConfig, ScanningCNN

CLIPS, SAMPLES = 32, 48_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="run the blocks in bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network = ScanningCNN(NetworkConfig(("word",), **SIZES[args.size]))
    network.mixed_precision = ("cpu",) if args.bfloat16 else ()
    seconds = measure(network, args.steps)
    print(json.dumps({"cpu_seconds": round(seconds, 4), **vars(args)}))


def measure(network: ScanningCNN, steps: int) -> float:
    """Least CPU seconds of a step, over all threads."""
    optimiser = torch.optim.AdamW(network.parameters())
    audio = 0.1 * torch.randn(CLIPS, SAMPLES)
    return min(timed_step(network, optimiser, audio) for _ in range(steps))


def timed_step(
    network: ScanningCNN, optimiser: torch.optim.Optimizer, audio: torch.Tensor
) -> float:
    start = time.process_time()
    output, _ = network(audio)
    loss = output.pooled.square().mean() + output.boundaries.square().mean()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return time.process_time() - start


if __name__ == "__main__":
    main()
