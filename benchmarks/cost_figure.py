"""The figure of a report of cost.py: cost by the length of chunks and by the number of streams."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GRID = "#2b303a", "#d9dce3"
MILLISECONDS = 1e3
CHUNK_TICKS, STREAM_TICKS = (10, 20, 40, 80, 160, 320, 1000, 10_000), (1, 10, 100, 500, 2000)
COST_TICKS = (0.1, 0.2, 0.5, 1, 2, 5)
# Name in the report -> label and colour.
ENGINES = {
    "micro_wake_word": ("pymicro-wakeword", "#d1495b"),
    "onnxruntime": ("ONNX Runtime, without verifier", "#edae49"),
    "kws_events_only": ("kws", "#00798c"),
    "kernel": ("kws, the kernel alone", "#8cb8c2"),
}
FEEDS = {"one_by_one": ("Stream.feed, one by one", "#8cb8c2"), "pool": ("Pool.feed", "#00798c")}


def draw_costs(figures: dict) -> Figure:
    """figures: of the report of cost.py."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    by_chunk, by_streams = figure.subplots(1, 2)
    _draw(by_chunk, figures["by_chunk"], ENGINES, CHUNK_TICKS)
    by_chunk.set(xlabel="chunk, ms", ylabel="CPU ms per second of speech", yscale="log")
    by_chunk.set(ylim=COST_TICKS[:: len(COST_TICKS) - 1])
    by_chunk.set_yticks(COST_TICKS, map(str, COST_TICKS))
    by_chunk.minorticks_off()
    _title(by_chunk, "One stream, by the length of chunks")
    _draw(by_streams, figures["by_streams"], FEEDS, STREAM_TICKS)
    by_streams.set(xlabel="streams, each fed 80 ms at a time", ylim=(0, None))
    _title(by_streams, "Each of many streams, by their number")
    return figure


def _draw(axes: Axes, costs: dict, names: dict[str, tuple[str, str]], ticks: Sequence[int]) -> None:
    """A line for each name: CPU time by a number."""
    for name, (label, colour) in names.items():
        milliseconds = [seconds * MILLISECONDS for seconds in costs[name].values()]
        axes.plot(list(costs[name]), milliseconds, "o-", color=colour, markersize=4, label=label)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(colors=INK, length=0)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)


def _title(axes: Axes, text: str) -> None:
    """A title above the axes, and between them the names of the lines."""
    axes.set_title(text, loc="left", color=INK, weight="bold", pad=42)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0, fontsize=9
    )
