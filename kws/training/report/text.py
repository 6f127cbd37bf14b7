"""An evaluation as text and aligned columns, for a terminal. The page uses the same phrases."""

from collections.abc import Iterator, Sequence

from kws.audio.durations import format_duration
from kws.terminal.stdio import escape_control_chars
from kws.training.evaluate.hours import describe_hours

_DASH = "–"
_MAX_SPEAKERS = 8


def summary(report: dict) -> str:
    """The report of `kws evaluate` (docs/reference/evaluation-json.md) as text."""
    lines = [report["model"]]
    for word in report["results"]:
        lines += ["", *_format_word(word, report)]
    return "\n".join(map(escape_control_chars, lines))


def describe_basis(word: dict, report: dict) -> str:
    """What the figures of a word rest on."""
    return f"{_describe_clips(word, report)}; {_describe_negatives(report['negatives'])}"


def describe_details(word: dict) -> list[str]:
    """Latency, localisation, duplicates and false alarms in streams at the model's own threshold,
    one sentence each."""
    alarms = word["false_alarms_in_streams"]
    on_other_words = ""
    if alarms["on_other_words"]:
        on_other_words = f", {alarms['on_other_words']} of them on other words"
    detected = word["streams"] - word["points"][0]["missed"]
    return [
        *_describe_timing(word),
        f"detected more than once: {word['duplicates']} of {detected} detected words",
        f"false alarms in the streams of words: {alarms['count']} in "
        f"{format_duration(alarms['hours'])}"
        f"{on_other_words}",
    ]


def format_snr(snr_db: float | None) -> str:
    return "clean" if snr_db is None else f"{snr_db:g} dB"


def format_miss_rate(row: dict) -> str:
    """A miss rate with its interval, such as 4.0 % (1.8–8.5)."""
    if row["miss_rate"] is None:
        return _DASH
    low, high = row["miss_interval"]
    return f"{100 * row['miss_rate']:.1f} % ({100 * low:.1f}{_DASH}{100 * high:.1f})"


def format_alarm_rate(row: dict) -> str:
    """False alarms per hour with their interval; only its upper limit if there are none."""
    if row["false_alarms_per_hour"] is None:
        return "unknown"
    low, high = row["false_alarms_interval"]
    if row["false_alarms"] == 0:
        return f"none: < {high:.2g} at 95 %"
    return f"{row['false_alarms_per_hour']:.2f} ({low:.2f}{_DASH}{high:.2f})"


def format_operating_point(point: dict) -> str:
    target = point["target_false_alarms_per_hour"]
    return "the model's own" if target is None else f"{target:g} per hour"


def operating_point_columns(word: dict) -> list[str]:
    """Titles of the columns of `operating_point_row`."""
    levels = [format_snr(row["snr_db"]) for row in word["points"][0]["by_snr"]]
    return ["operating point", "threshold", "false alarms/h", "missed", *levels]


def operating_point_row(point: dict) -> list[str]:
    """The cells of an operating point; name and reason alone if it is unknown."""
    if "unknown" in point:
        return [format_operating_point(point), point["unknown"]]
    return [
        format_operating_point(point),
        f"{point['threshold']:.4f}",
        format_alarm_rate(point),
        format_miss_rate(point),
        *map(format_miss_rate, point["by_snr"]),
    ]


def position_rows(word: dict) -> list[list[str]]:
    return [
        [f"{row['from_seconds']:g}{_DASH}{row['to_seconds']:g} s", format_miss_rate(row)]
        for row in word["by_position"]
    ]


def speaker_rows(word: dict) -> list[list[str]]:
    """The worst speaker first; no rows if every clip has a speaker of its own."""
    if word["speakers"] == word["clips"]:
        return []
    return [[row["speaker"], format_miss_rate(row)] for row in word["by_speaker"]]


def _describe_clips(word: dict, report: dict) -> str:
    if not word["clips"]:
        return "no clips of it"
    speakers = "(by their names no two of one speaker)"
    if word["speakers"] < word["clips"]:
        speakers = f"by {word['speakers']:,} speakers"
    return (
        f"{word['clips']:,} clips {speakers} in {word['streams']:,} streams of "
        f"{report['stream_seconds']:g} s"
    )


def _describe_negatives(negatives: dict) -> str:
    if not negatives["hours"]:
        return "nothing without the word, so false alarms are unknown"
    hours = describe_hours(negatives["hours_by_kind"])
    return f"{hours} without the word in {negatives['recordings']:,} recordings"


def _describe_timing(word: dict) -> Iterator[str]:
    latency = word["latency_seconds"]
    if not latency:
        return
    yield (
        f"detected after the end of the word: median {latency['median']:.2f} s, 95 % within "
        f"{latency['p95_abs']:.2f} s"
    )
    for side in ("start", "end"):
        error = word[f"{side}_error_seconds"]
        yield (
            f"error of the event's {side}: median {error['median_abs']:.3f} s, 95 % within "
            f"{error['p95_abs']:.3f} s"
        )


def _format_word(word: dict, report: dict) -> Iterator[str]:
    yield f"{word['word']}: {describe_basis(word, report)}"
    yield ""
    yield from _format_operating_points(word)
    yield ""
    yield "at the model's own threshold"
    yield from (f"  {line}" for line in describe_details(word))
    yield from _format_table("position of the word", position_rows(word))
    yield from _format_table("speaker", speaker_rows(word)[:_MAX_SPEAKERS])


def _format_table(title: str, rows: list[list[str]]) -> Iterator[str]:
    if rows:
        yield from (f"  {line}" for line in _align_columns([[title, "missed"], *rows]))


def _format_operating_points(word: dict) -> Iterator[str]:
    """One line per operating point; an unknown one has its reason in place of figures."""
    rows = [operating_point_row(point) for point in word["points"]]
    head = operating_point_columns(word)
    measured = iter(_align_columns([head, *(row for row in rows if len(row) > 2)]))
    yield next(measured)
    width = max(len(row[0]) for row in [head, *rows])
    for row in rows:
        yield next(measured) if len(row) > 2 else f"{row[0]:<{width}}  {row[1]}"


def _align_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
