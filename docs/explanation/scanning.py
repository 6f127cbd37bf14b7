"""The argument for scanning, shown with the network of kws: writes scanning.png beside itself,
prints the numbers of scanning.md.

    python docs/explanation/scanning.py

The word is synthetic: two gliding syllables, A then B, in noise. The other clips hold A, B, B then
A, or noise alone. In training the word always stands near the middle of its clip. Two models are
trained on the same clips, a perceptron on the whole clip and the scanning network, and then tested
with the word at other places.
"""

import time
import timeit
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from kws.audio.recordings import SAMPLE_RATE
from kws.training.model.frontend import LogMel
from kws.training.model.network import NetworkConfig, Output, ScanningCNN, fold_batch_norms

WORD, OTHERS = "AB", ("A", "B", "BA", "")
FORMANTS = {"A": ((350, 900), (2300, 1300)), "B": ((900, 500), (1300, 2100))}  # from and to, Hz
# The syllables of the figure, each with its start in seconds.
SCENE = ((WORD, 1.6), ("BA", 3.1), (WORD, 4.4), ("A", 6.0), ("B", 7.2), (WORD, 8.3))
INK, GRID, SOUND, SCAN, OTHER = "#2b303a", "#d9dce3", "#c3cddd", "#00798c", "#d1495b"

Scores = dict[tuple[str, str], np.ndarray]  # (model, syllables) → [starts, trials]


@dataclass(frozen=True)
class Experiment:
    """How clips are synthesized and models trained; times in seconds. No start is earlier than a
    window, as the scan has no score before that."""

    clip_seconds: float = 4.0
    trained_starts: tuple[float, float] = (2.2, 2.6)
    starts: tuple[float, ...] = tuple(np.arange(1.5, 3.31, 0.075).round(3).tolist())
    trials: int = 24  # clips per start
    steps: int = 200
    batch: int = 32
    learning_rate: float = 3e-3

    @property
    def is_trained(self) -> np.ndarray:
        """Which of the starts the models were trained on."""
        first, last = self.trained_starts
        return np.array([first <= start <= last for start in self.starts])


class WholeClip(nn.Module):
    """A perceptron on the whole clip. Each input has its own weight, so the word must be learned at
    each place."""

    def __init__(self, config: NetworkConfig, clip_seconds: float, hidden: int = 64):
        super().__init__()
        hops = (round(clip_seconds * SAMPLE_RATE) - config.window_samples) // config.hop_samples + 1
        dense = [
            nn.Linear(hops * config.mels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        ]
        self.layers = nn.Sequential(
            LogMel(config), nn.BatchNorm1d(config.mels), nn.Flatten(), *dense
        )

    def forward(self, audio: Tensor) -> Tensor:
        """Clips [B, N] → log probabilities [B]."""
        return F.logsigmoid(self.layers(audio).squeeze(1))


class Scan(nn.Module):
    """The scanning network; a clip scores what the best of its windows scores."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.network = ScanningCNN(config)

    def forward(self, audio: Tensor) -> Tensor:
        """Clips [B, N] → log probabilities [B]."""
        return self.network(audio)[0].pooled.amax((1, 2))


def recording(
    seconds: float, utterances: tuple[tuple[str, float], ...], rng: np.random.Generator
) -> np.ndarray:
    """Noise with utterances, each its syllables and its start in seconds, in a random voice
    at a random level."""
    samples = 0.05 * rng.standard_normal(round(seconds * SAMPLE_RATE), dtype=np.float32)
    for syllables, start in utterances:
        pitch, length, level = (
            rng.uniform(0.93, 1.07),
            rng.uniform(0.22, 0.28),
            rng.uniform(0.1, 0.4),
        )
        for i, name in enumerate(syllables):
            voice = level * _syllable(name, pitch, length)
            first = round((start + i * length) * SAMPLE_RATE)
            samples[first : first + len(voice)] += voice
    return samples


def _syllable(name: str, pitch: float, seconds: float) -> np.ndarray:
    n = round(seconds * SAMPLE_RATE)
    return np.hanning(n) * sum(
        np.sin(2 * np.pi / SAMPLE_RATE * pitch * np.linspace(*formant, n).cumsum())
        for formant in FORMANTS[name]
    )


def train(model: nn.Module, experiment: Experiment) -> nn.Module:
    """The model, trained on clips that depend on nothing but the step; in eval mode."""
    optimiser = torch.optim.AdamW(model.parameters(), experiment.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, experiment.steps)
    for step in range(experiment.steps):
        audio, is_word = _training_batch(step, experiment)
        log_p = model(audio).clamp_max(-1e-6)
        loss = -torch.where(is_word, log_p, torch.log(-torch.expm1(log_p))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def _training_batch(step: int, experiment: Experiment) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((1, step))
    syllables = [WORD if i % 2 else str(rng.choice(OTHERS)) for i in range(experiment.batch)]
    starts = rng.uniform(*experiment.trained_starts, len(syllables))
    audio = _clips(zip(syllables, starts, strict=True), experiment, rng)
    return audio, torch.tensor([each == WORD for each in syllables])


def _clips(
    utterances: Iterable[tuple[str, float]], experiment: Experiment, rng: np.random.Generator
) -> Tensor:
    """One clip for each utterance [B, N]."""
    clips = [recording(experiment.clip_seconds, (each,), rng) for each in utterances]
    return torch.from_numpy(np.stack(clips))


@torch.no_grad()
def scores_by_start(model: nn.Module, syllables: str, experiment: Experiment) -> np.ndarray:
    """Scores [starts, trials] of new clips in which the syllables begin at each of the
    experiment's starts."""
    rng = np.random.default_rng(2)
    clips = (
        _clips([(syllables, start)] * experiment.trials, experiment, rng)
        for start in experiment.starts
    )
    return np.stack([model(each).exp().numpy() for each in clips])


@torch.no_grad()
def slide(network: ScanningCNN, audio: Tensor, batch: int = 64) -> Output:
    """Classifies every window of audio [1, N] by itself; their scores side by side, in the shape of
    one pass."""
    windows = audio[0].unfold(0, network.config.clip_frame_samples, network.config.frame_samples)
    outputs = [network(part)[0] for part in windows.split(batch)]
    return Output(
        *(torch.cat(parts).movedim(0, -1).movedim(-2, 0) for parts in zip(*outputs, strict=True))
    )


@dataclass(frozen=True)
class Cost:
    """Million multiplications of a layer per second of audio: in one pass, and where each window is
    classified by itself."""

    name: str
    one_pass: float
    slid: float

    @property
    def ratio(self) -> float:
        return self.slid / self.one_pass


def costs(config: NetworkConfig) -> list[Cost]:
    """The cost of each layer, from the samples to the scores. Convolutions and products of matrices
    are counted; what is computed element by element is under one percent."""
    network = fold_batch_norms(ScanningCNN(config))
    one_pass = _multiplications(network, config.frame_samples, network.initial_state())
    window = _multiplications(network, config.clip_frame_samples)
    names = {"logmel": "log-mel", "bands": "bands", "stem": "stem"}
    names |= {f"blocks.{i}": f"block, kernel {k}" for i, k in enumerate(config.kernels)}
    names["head"] = "head"
    millions = SAMPLE_RATE / config.frame_samples / 1e6
    return [
        Cost(name, millions * one_pass[module], millions * window[module])
        for module, name in names.items()
        if module in window
    ]


def total_cost(layers: list[Cost]) -> Cost:
    return Cost("all", sum(each.one_pass for each in layers), sum(each.slid for each in layers))


@torch.no_grad()
def _multiplications(
    network: ScanningCNN, samples: int, state: Tensor | None = None
) -> dict[str, int]:
    """Multiplications by module, for this many new samples."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, samples), state)
    # torch counts the additions, too.
    return {
        name.removeprefix("ScanningCNN."): sum(operations.values()) // 2
        for name, operations in counter.get_flop_counts().items()
    }


@torch.no_grad()
def one_pass(network: ScanningCNN, audio: Tensor) -> Output:
    return network(audio)[0]


def main() -> None:
    experiment, config = Experiment(), NetworkConfig(("word",), pooling="max")
    torch.manual_seed(0)
    models = {"whole clip": WholeClip(config, experiment.clip_seconds), "scan": Scan(config)}
    for model in models.values():
        train(model, experiment)
    scores = {
        (name, syllables): scores_by_start(model, syllables, experiment)
        for name, model in models.items()
        for syllables in (WORD, "BA")
    }
    network = fold_batch_norms(models["scan"].network)
    scene = torch.from_numpy(recording(10.0, SCENE, np.random.default_rng(3)))[None]
    _print_equality(network, scene)
    _print_multiplications(config)
    _print_places(models, scores, experiment)
    _figure(network, scene, scores, experiment).savefig(Path(__file__).with_suffix(".png"), dpi=160)


def _print_equality(network: ScanningCNN, scene: Tensor) -> None:
    whole, slid = one_pass(network, scene), slide(network, scene)
    frames = (whole.logits.sigmoid() - slid.logits.sigmoid()).abs().max()
    pooled = (whole.pooled.exp() - slid.pooled.exp()).abs().max()
    print(
        f"one pass and {whole.pooled.shape[-1]} slid windows: frame probabilities differ by "
        f"{frames:.1e} at most, pooled by {pooled:.1e}"
    )
    times = [
        min(
            timeit.repeat(
                partial(scan, network, scene), number=1, repeat=15, timer=time.process_time
            )
        )
        for scan in (one_pass, slide)
    ]
    fast, slow = (1e3 * each * SAMPLE_RATE / scene.shape[-1] for each in times)
    print(
        f"CPU ms per second of audio: one pass {fast:.2f}, slid {slow:.1f}, ratio {slow / fast:.0f}"
    )
    print(f"state of a stream: {network.state_size:,} numbers\n")


def _print_multiplications(config: NetworkConfig) -> None:
    layers = costs(config)
    print("million multiplications per second of audio: one pass, slid, ratio")
    for layer in (*layers, total_cost(layers)):
        print(f"  {layer.name:18}{layer.one_pass:9.3f}{layer.slid:10.2f}{layer.ratio:8.1f}")
    print()


def _print_places(models: dict[str, nn.Module], scores: Scores, experiment: Experiment) -> None:
    print("share of clips that score 0.5 or more, and the model's parameters")
    for (name, syllables), values in scores.items():
        is_found, trained = values >= 0.5, experiment.is_trained
        size = sum(p.numel() for p in models[name].parameters())
        print(
            f"  {name:10} {syllables}{is_found[trained].mean():8.1%} where "
            f"trained{is_found[~trained].mean():8.1%} elsewhere{size:13,}"
        )


def _figure(network: ScanningCNN, scene: Tensor, scores: Scores, experiment: Experiment) -> Figure:
    figure = Figure(figsize=(10, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.3], hspace=0.04)
    scan, (costs, places) = top.subplots(), bottom.subplots(1, 2, width_ratios=[1, 1.3])
    _draw_scan(scan, network, scene)
    _draw_costs(costs, network.config)
    _draw_places(places, scores, experiment)
    cheaper = f"One pass costs {total_cost(costs(network.config)).ratio:.0f} times less"
    titles = {
        scan: "One pass gives the scores of all windows",
        costs: cheaper,
        places: "Moved, the word is found by the scan alone",
    }
    for axes, title in titles.items():
        axes.set_title(title, loc="left", color=INK, weight="bold", pad=40)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        axes.tick_params(which="both", colors=INK, length=0)
    return figure


def _draw_scan(axes: Axes, network: ScanningCNN, scene: Tensor) -> None:
    config, wave = network.config, scene[0].numpy()
    whole, slid = (scan(network, scene).pooled[0, 0].exp() for scan in (one_pass, slide))
    ends = (config.clip_frame_samples + np.arange(len(whole)) * config.frame_samples) / SAMPLE_RATE
    axes.plot(
        np.arange(len(wave)) / SAMPLE_RATE,
        0.5 + 0.45 * wave / np.abs(wave).max(),
        color=SOUND,
        linewidth=0.3,
    )
    axes.plot(ends, whole, color=SCAN, linewidth=2, label="one convolutional pass")
    axes.plot(
        ends[::6],
        slid[::6],
        "o",
        color=OTHER,
        markersize=4,
        label="every sixth window, classified by itself",
    )
    for syllables, start in SCENE:
        axes.text(
            start + 0.125 * len(syllables),
            1.06,
            " ".join(syllables),
            ha="center",
            color=INK,
            weight="bold" if syllables == WORD else "normal",
        )
    axes.set(
        xlim=(0, len(wave) / SAMPLE_RATE), ylim=(-0.04, 1.04), xlabel="seconds", ylabel="score"
    )
    _legend(axes, height=1.15)


def _draw_costs(axes: Axes, config: NetworkConfig) -> None:
    layers = costs(config)[::-1]
    rows, once = range(len(layers)), [layer.one_pass for layer in layers]
    slid = [layer.slid for layer in layers]
    axes.hlines(rows, once, slid, color=GRID, linewidth=5)
    axes.plot(once, rows, "o", color=SCAN, markersize=8, label="one pass")
    axes.plot(slid, rows, "o", color=OTHER, markersize=8, label="slid window")
    for row, layer in zip(rows, layers, strict=True):
        axes.text(layer.slid * 1.8, row, f"× {layer.ratio:.0f}", va="center", color=INK)
    axes.set_yticks(rows, [layer.name for layer in layers])
    axes.set(xscale="log", xlim=(0.005, 5000), xlabel="million multiplications per second")
    _legend(axes, height=1.01)


def _draw_places(axes: Axes, scores: Scores, experiment: Experiment) -> None:
    axes.axvspan(*experiment.trained_starts, color=GRID, alpha=0.6, linewidth=0)
    axes.text(
        np.mean(experiment.trained_starts),
        0.5,
        "trained\nhere",
        ha="center",
        va="center",
        color=INK,
    )
    for name, colour in (("whole clip", OTHER), ("scan", SCAN)):
        low, high = np.percentile(scores[name, WORD], (10, 90), axis=1)
        axes.fill_between(experiment.starts, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(
            experiment.starts,
            scores[name, WORD].mean(1),
            color=colour,
            linewidth=2.2,
            label=f"{name}: A B, the word",
        )
        axes.plot(
            experiment.starts,
            scores[name, "BA"].mean(1),
            ":",
            color=colour,
            linewidth=1.8,
            label=f"{name}: B A, not the word",
        )
    axes.set(
        ylim=(-0.04, 1.04),
        xlim=(experiment.starts[0], experiment.starts[-1]),
        xlabel="where it begins in the clip, seconds",
    )
    axes.set_ylabel("score of the clip")
    _legend(axes, height=1.01)


def _legend(axes: Axes, height: float) -> None:
    """Between the title and the axes."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, height),
        ncols=2,
        frameon=False,
        borderaxespad=0,
        columnspacing=1.2,
        fontsize=9,
    )


if __name__ == "__main__":
    main()
