"""The evaluation as one HTML page without external files: curves, tables, and the errors as
pictures and sounds."""

from base64 import b64encode
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kws.training.report import text
from kws.training.report.det_plot import draw_det_curve
from kws.training.report.examples import ErrorExample, Span, WordErrors

_MAX_SPEAKERS = 20


class Drawing:
    """Positions in the picture of an example: bars that mark spans above a spectrogram, the score
    below it."""

    width, bar_height, spectrogram_height, score_height = 300, 4, 96, 46
    height = bar_height + spectrogram_height + score_height

    def __init__(self, example: ErrorExample):
        self._example = example

    @property
    def threshold(self) -> float:
        return self._y(self._example.threshold)

    @property
    def score(self) -> str:
        """The points of the score track."""
        return " ".join(
            f"{self._x(time):.1f},{self._y(score):.1f}"
            for time, score in zip(self._example.times, self._example.scores, strict=True)
        )

    @property
    def bars(self) -> list[tuple[str, float, float]]:
        """Kind, position and width of the bars of the word and of the event."""
        bars = []
        for kind, span in (("word", self._example.word), ("event", self._example.event)):
            if span and span.end > 0 and span.start < self._example.seconds:
                first, last = self._x_clipped(span)
                bars.append((kind, first, max(last - first, 1.0)))
        return bars

    def _x_clipped(self, span: Span) -> tuple[float, float]:
        return self._x(max(span.start, 0.0)), self._x(min(span.end, self._example.seconds))

    def _x(self, seconds: float) -> float:
        return seconds / max(self._example.seconds, 1e-9) * self.width

    def _y(self, score: float) -> float:
        """There is a little room above a score of 1 and below a score of 0."""
        return self.height - self.score_height + 5 + (1 - score) * (self.score_height - 7)


def page(report: dict, errors: Sequence[WordErrors]) -> str:
    """HTML of a report (docs/reference/evaluation-json.md) and of the worst errors of each of its
    words."""
    environment = Environment(
        loader=PackageLoader("kws.training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": "{:g}".format,
        "operating_point": text.operating_point_row,
    }
    hours = report["negatives"]["hours"]
    return environment.get_template("page.html").render(
        report=report,
        words=list(zip(report["results"], errors, strict=True)),
        curve=lambda word: Markup(draw_det_curve(word, hours)),
        drawing=Drawing,
        data_url=_data_url,
        split_interval=_split_interval,
        text=text,
        max_speakers=_MAX_SPEAKERS,
    )


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _split_interval(figure: str) -> tuple[str, str]:
    """A figure such as "4.0 % (1.8–8.5)" as "4.0 %" and "(1.8–8.5)"."""
    value, bracket, interval = figure.partition(" (")
    return value, bracket.strip() + interval
