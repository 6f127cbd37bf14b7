"""An evaluation in words and aligned columns, for a terminal; the phrases serve the page
as well."""

from collections.abc import Iterator, Sequence

from kws.terminal.stdio import escape_control_chars

_DASH = "–"


def summary(report: dict) -> str:
    """The report of `kws evaluate` (see docs/evaluation.md) as text."""
    lines = [
        report["model"],
        *(line for word in report["results"] for line in ("", *_format_word(word, report))),
    ]
    return "\n".join(map(escape_control_chars, lines))


def describe_basis(word: dict, report: dict) -> str:
    """What the figures of a word rest on."""
    negatives = report["negatives"]
    speakers = (
        f"by {word['speakers']:,} speakers"
        if word["speakers"] < word["clips"]
        else "(by their names no two of one speaker)"
    )
    clips_text = (
        f"{word['clips']:,} clips {speakers} in {word['streams']:,} streams of "
        f"{report['stream_seconds']:g} s"
    )
    negatives_text = (
        f"{format_duration(negatives['hours'])} without the word in {negatives['recordings']:,} recordings"
        if negatives["hours"]
        else None
    )
    return "; ".join(
        [
            clips_text if word["clips"] else "no clips of it",
            negatives_text or "nothing without the word, so false alarms are unknown",
        ]
    )


def format_duration(hours: float) -> str:
    # So that a rate can be told from what is printed.
    return f"{hours:.2f} h" if hours >= 0.1 else f"{3600 * hours:.0f} s"


def format_snr(snr_db: float | None) -> str:
    return "clean" if snr_db is None else f"{snr_db:g} dB"


def format_miss_rate(row: dict) -> str:
    """4.0 % (1.8–8.5): a miss rate with its interval."""
    if row["miss_rate"] is None:
        return _DASH
    low, high = row["miss_interval"]
    return f"{row['miss_rate']:.1%} ({low * 100:.1f}{_DASH}{high * 100:.1f})".replace("%", " %")


def format_alarm_rate(row: dict) -> str:
    """False alarms per hour with their interval; of none at all only an upper limit is told."""
    if row["false_alarms_per_hour"] is None:
        return "unknown"
    low, high = row["false_alarms_interval"]
    if row["false_alarms"] == 0:
        return f"none: < {high:.2g} at 95 %"
    return f"{row['false_alarms_per_hour']:.2f} ({low:.2f}{_DASH}{high:.2f})"


def format_operating_point(point: dict) -> str:
    return (
        "the model's own"
        if point["target_false_alarms_per_hour"] is None
        else f"{point['target_false_alarms_per_hour']:g} per hour"
    )


def describe_details(word: dict) -> list[str]:
    """Latency, localisation and what else was counted at the model's own threshold, one
    sentence each."""
    stray_alarms = word["false_alarms_in_streams"]
    other_words_note = (
        f", {stray_alarms['on_other_words']} of them on other words"
        if stray_alarms["on_other_words"]
        else ""
    )
    found = word["streams"] - word["points"][0]["missed"]
    return [
        *_format_timing(word),
        f"heard more than once: {word['duplicates']} of {found} words found",
        (
            f"false alarms in the streams of words: {stray_alarms['count']} in {stray_alarms['hours']:.2f} "
            f"h{other_words_note}"
        ),
    ]


def _format_timing(word: dict) -> Iterator[str]:
    latency = word["latency_seconds"]
    if latency:
        yield (
            f"decided after the word's end: median {latency['median']:.2f} s, 95 % within "
            f"{latency['p95_abs']:.2f} s"
        )
        for side in ("start", "end"):
            error = word[f"{side}_error_seconds"]
            yield (
                f"{side} of the event off by: median {error['median_abs']:.3f} s, 95 % within "
                f"{error['p95_abs']:.3f} s"
            )


def _format_word(word: dict, report: dict) -> Iterator[str]:
    yield f"{word['word']}: {describe_basis(word, report)}"
    yield ""
    yield from _format_points(word["points"])
    yield ""
    yield "at the model's own threshold"
    yield from (f"  {line}" for line in describe_details(word))
    for title, rows in (
        ("position of the word", format_position_rows(word)),
        ("speaker", format_speaker_rows(word)[:8]),
    ):
        yield from _align_columns(
            [(f"  {name}", missed) for name, missed in [(title, "missed"), *rows]] if rows else []
        )


def format_position_rows(word: dict) -> list[tuple[str, str]]:
    return [
        (f"{row['from_seconds']:g}{_DASH}{row['to_seconds']:g} s", format_miss_rate(row))
        for row in word["by_position"]
    ]


def format_speaker_rows(word: dict) -> list[tuple[str, str]]:
    """Worst first; none where every clip has a speaker of its own."""
    return (
        [(row["speaker"], format_miss_rate(row)) for row in word["by_speaker"]]
        if word["speakers"] < word["clips"]
        else []
    )


def _format_points(points: Sequence[dict]) -> Iterator[str]:
    """One line per operating point; what is unknown says why instead of numbers."""
    levels = [format_snr(row["snr_db"]) for row in points[0]["by_snr"]]
    measured_rows = [
        (
            format_operating_point(p),
            f"{p['threshold']:.4f}",
            format_alarm_rate(p),
            format_miss_rate(p),
            *(format_miss_rate(row) for row in p["by_snr"]),
        )
        for p in points
        if "threshold" in p
    ]
    lines = list(
        _align_columns(
            [("operating point", "threshold", "false alarms/h", "missed", *levels), *measured_rows]
        )
    )
    yield lines.pop(0)
    width = max(len(format_operating_point(point)) for point in points) + 2
    for point in points:
        yield (
            lines.pop(0)
            if "threshold" in point
            else f"{format_operating_point(point):<{max(width, 17)}}{point['unknown']}"
        )


def _align_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
