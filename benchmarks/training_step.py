"""Measures the CPU time of one training step of the network: forward, backward, optimiser. It needs
no data.

    python benchmarks/training_step.py [--size small] [--steps 8] [--threads 1] [--bfloat16]

A batch is 32 clips of three seconds of noise. The least of the steps counts, as a busy machine only
adds to it. To compare two commits, run this script in turns with PYTHONPATH at a work tree of each.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # after PYTHONPATH
from benchmarks.report import add_out_option, print_report
from kws.training.model.network import SIZES, NetworkConfig, ScanningCNN

CLIPS, SAMPLES = 32, 48_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="run the blocks in bfloat16")
    add_out_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network = ScanningCNN(NetworkConfig(("word",), **SIZES[args.size]))
    network.mixed_precision = ("cpu",) if args.bfloat16 else ()
    figures = {
        "size": args.size,
        "threads": args.threads,
        "bfloat16": args.bfloat16,
        "cpu_seconds": round(measure(network, args.steps), 4),
    }
    print_report(figures, args.out)


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
