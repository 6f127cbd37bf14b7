"""The evaluation as one HTML page that needs nothing else: curves, tables, and the errors to be
looked at and listened to."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from kws.training.report.det_plot import draw_det_curve
from kws.training.report.examples import ErrorExample, Errors, Span
from kws.training.report.style import SCRIPT, STYLE
from kws.training.report.text import (
    describe_basis,
    describe_details,
    format_alarm_rate,
    format_duration,
    format_miss_rate,
    format_operating_point,
    format_position_rows,
    format_snr,
    format_speaker_rows,
)

_SPEAKERS = 20
# Units of a card's drawing: spectrogram above, score below, bars that mark spans.
_WIDTH, _PICTURE, _TRACK, _BAR = 300, 96, 46, 4


def page(report: dict, errors: Sequence[Errors]) -> str:
    """HTML of a report (docs/evaluation.md says what is in it) and of the worst errors of each of
    its words."""
    names = ", ".join(report["words"])
    sections = [
        _word(word, report, each) for word, each in zip(report["results"], errors, strict=True)
    ]
    links = (
        [f'<a href="#{escape(word)}">{escape(word)}</a>' for word in report["words"]]
        if len(report["words"]) > 1
        else []
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>kws evaluate: {escape(names)}</title><style>{STYLE}</style></head><body>",
            (
                f'<h1>How well is “{escape(names)}” heard?</h1><p class="soft '
                f'path">{escape(report["model"])}</p><p>{" ".join(links)}</p>'
            ),
            *sections,
            *_method(report),
            f"<script>{SCRIPT}</script></body></html>",
        ]
    )


def _word(word: dict, report: dict, errors: Errors) -> str:
    parts = [
        (
            f'<h2 id="{escape(word["word"])}">{escape(word["word"])}</h2><p '
            f'class="soft">{escape(describe_basis(word, report))}.</p>'
        ),
        *_tiles(word),
        *_curve(word, report["negatives"]["hours"]),
        *_points(word),
        '<h3>At the model\'s own threshold</h3><div class="tables">',
        _list(describe_details(word)) if word["streams"] else "",
        _table(["position of the word", "missed"], format_position_rows(word)),
        _table(["speaker, the worst first", "missed"], format_speaker_rows(word)[:_SPEAKERS]),
        "</div>",
        *_cards(
            "Worst misses",
            "where it should have been easiest come first",
            errors.misses,
            "No word was missed.",
        ),
        *_cards(
            "Worst false alarms",
            "the highest scores first, then what came nearest",
            errors.alarms,
            "None, and nothing came near.",
        ),
    ]
    return "\n".join(parts)


def _tiles(word: dict) -> Iterator[str]:
    own = word["points"][0]
    yield '<div class="tiles">'
    for row in own["by_snr"]:
        yield _tile(
            format_miss_rate(row),
            "missed, clean"
            if row["snr_db"] is None
            else f"missed, in noise at {format_snr(row['snr_db'])}",
        )
    yield _tile(format_alarm_rate(own), "false alarms per hour")
    latency = word["latency_seconds"]
    if latency:
        yield _tile(f"{latency['median']:.2f} s", "from the end of the word to the decision")
    yield "</div>"


def _tile(figure: str, caption: str) -> str:
    """The figure large, its interval small."""
    value, _, interval = figure.partition(" (")
    more = f" ({escape(interval)}" if interval else ""
    return f'<div class="tile"><b>{escape(value)}</b><small>{escape(caption)}{more}</small></div>'


def _curve(word: dict, hours: float) -> Iterator[str]:
    curve = draw_det_curve(word, hours)
    if curve:
        caption = (
            "Down and left is better. Each line is one level of noise as the threshold moves; "
            "the dot is the model's own threshold, "
            "its bar the 95 % interval. "
            f"In the strip at the left no false alarm was heard in {format_duration(hours)}."
        )
        yield (
            "<h3>Misses against false "
            f"alarms</h3><figure>{curve}<figcaption>{escape(caption)}</figcaption></figure>"
        )


def _points(word: dict) -> Iterator[str]:
    yield "<h3>At so many false alarms per hour</h3>"
    levels = [format_snr(row["snr_db"]) for row in word["points"][0]["by_snr"]]
    head = ["", "threshold", "false alarms per hour", "missed", *levels]
    rows = []
    for point in word["points"]:
        if "threshold" in point:
            rows.append(
                [
                    format_operating_point(point),
                    f"{point['threshold']:.4f}",
                    format_alarm_rate(point),
                    format_miss_rate(point),
                    *map(format_miss_rate, point["by_snr"]),
                ]
            )
        else:
            rows.append([format_operating_point(point), "", point["unknown"]])
    yield _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A row with too few cells fills the table with its last one."""
    if not rows:
        return ""
    cells = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    for row in rows:
        span = f' colspan="{len(head) - len(row) + 1}" class="soft"' if len(row) < len(head) else ""
        cells.append(
            "".join(f"<td>{_cell(cell)}</td>" for cell in row[:-1])
            + f"<td{span}>{_cell(row[-1])}</td>"
        )
    return f'<div class="wide"><table>{"".join(f"<tr>{line}</tr>" for line in cells)}</table></div>'


def _cell(text: str) -> str:
    value, bracket, interval = escape(text).partition(" (")
    return f'{value} <small class="soft">({interval}</small>' if bracket else value


def _list(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in sentences)}</ul>"


def _cards(title: str, order: str, examples: Sequence[ErrorExample], none: str) -> Iterator[str]:
    yield f"<h3>{title}</h3>"
    if not examples:
        yield f'<p class="soft">{none}</p>'
        return
    keys = {"word": "where the word is said", "event": "where it was heard"}
    shown = [key for key in keys if any(getattr(each, key) for each in examples)]
    legend = "".join(
        (
            ' <span class="nowrap"><span class="key" '
            f'style="background:var(--{key})"></span>{keys[key]}</span>'
        )
        for key in shown
    )
    yield (
        f'<p class="soft">{order[0].upper()}{order[1:]}. '
        f"Click a picture to listen from there.{legend}</p>"
    )
    yield f'<div class="cards">{"".join(map(_card, examples))}</div>'


def _card(specimen: ErrorExample) -> str:
    return (
        f'<div class="card"><b>{escape(specimen.title)}</b><span class="soft '
        f'path">{escape(specimen.location)}</span>{_drawing(specimen)}'
        '<audio controls preload="metadata" '
        f'src="{_data("audio/wav", specimen.wav())}"></audio></div>'
    )


def _drawing(specimen: ErrorExample) -> str:
    """Spectrogram with the spans above it, score and threshold below it."""
    height = _BAR + _PICTURE + _TRACK
    track = " ".join(
        f"{_x(specimen, time):.1f},{_y(score):.1f}"
        for time, score in zip(specimen.times, specimen.scores, strict=True)
    )
    spans = [_span(specimen, name, getattr(specimen, name)) for name in ("word", "event")]
    picture = (
        f'<image y="{_BAR}" width="{_WIDTH}" height="{_PICTURE}" '
        f'href="{_data("image/png", specimen.spectrogram())}"'
    )
    threshold = _y(specimen.threshold)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}">{"".join(spans)}{picture} '
        'preserveAspectRatio="none"/>'
        f'<line x1="0" y1="{threshold:.1f}" x2="{_WIDTH}" y2="{threshold:.1f}" '
        f'class="bar"/><polyline points="{track}" class="score"/>'
        f'<line y1="0" y2="{height}" class="head"/></svg>'
    )


def _span(specimen: ErrorExample, name: str, span: Span | None) -> str:
    if span is None:
        return ""
    first, last = (_x(specimen, min(max(time, 0.0), specimen.seconds)) for time in span)
    if last <= first:
        return ""
    return (
        f'<rect x="{first:.1f}" width="{max(last - first, 1.0):.1f}" height="{_BAR - 1}" '
        f'class="{name}"/>'
    )


def _x(specimen: ErrorExample, seconds: float) -> float:
    return seconds / max(specimen.seconds, 1e-9) * _WIDTH


def _y(score: float) -> float:
    """Of a score in its strip, which has a little room above 1 and below 0."""
    return _BAR + _PICTURE + 5 + (1 - score) * (_TRACK - 7)


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _method(report: dict) -> Iterator[str]:
    tolerance, negatives = report["tolerance_seconds"], report["negatives"]
    noise = (
        report["background"]
        if isinstance(report["background"], str)
        else f"noise from {', '.join(report['background'])}"
    )
    yield "<h3>What was counted</h3>"
    yield _list(
        [
            "Each clip of a word is laid once per level of noise "
            f"{_place(report['position_seconds'])} in "
            f"{report['stream_seconds']:g} s of {noise} (seed {report['seed']}), and heard as kws "
            "detect hears a file.",
            f"An event whose peak lies from {tolerance['before_end']:g} s before to "
            f"{tolerance['after_end']:g} s after the end of the word "
            "is the word. A second one is counted apart, as heard more than once; "
            "what lies outside is a false alarm.",
            f"False alarms per hour are those in {format_duration(negatives['hours'])} of recordings "
            "without the words "
            f"({', '.join(negatives['folders']) or 'none given'}); "
            f"{negatives['skipped']} could not be read and are not counted.",
            "Intervals are for 95 %: Wilson's for misses, counting clips rather than streams; "
            "exact Poisson for false alarms. "
            "Clips of one speaker are more alike than the intervals assume.",
        ]
    )


def _place(positions: list[float] | None) -> str:
    return (
        f"and place (it begins after {', '.join(f'{each:g}' for each in positions)} s)"
        if positions
        else "at a random place"
    )
