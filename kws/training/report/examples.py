"""Examples of errors: a few seconds of sound around each, as spectrogram (PNG), score track and
WAV."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from kws.audio import recordings
from kws.audio.recordings import SAMPLE_RATE
from kws.terminal.plot import log_mel, without_font_cache
from kws.training.evaluate.metrics import (
    EvaluationData,
    FalseAlarm,
    find_worst_alarms,
    find_worst_misses,
)
from kws.training.evaluate.scoring import StreamResult
from kws.training.report.text import format_snr

MAX_EXAMPLES = 12  # misses, and as many false alarms; fewer per word if there are several words
_BEFORE_SECONDS, _AFTER_SECONDS = 1.2, 0.8
_MAX_SECONDS = 4.0
_MAX_PER_RECORDING = 3
_LEAD_SECONDS = 2.0  # scored before an excerpt, so that its scores are those of the whole recording
_DYNAMIC_RANGE_DB = 65.0


@dataclass(frozen=True)
class Span:
    """From `start` to `end`, in seconds."""

    start: float
    end: float

    def shifted(self, seconds: float) -> "Span":
        return Span(self.start + seconds, self.end + seconds)


@dataclass(frozen=True)
class ErrorExample:
    """One error. Times are seconds from the beginning of the excerpt."""

    title: str
    location: str
    samples: np.ndarray  # [n] at 16 kHz
    times: np.ndarray  # [F]
    scores: np.ndarray  # [F]
    threshold: float
    word: Span | None  # where the word is spoken
    event: Span | None  # where the model detected it

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def wav(self) -> bytes:
        """The sound in 16 bits, attenuated if it would clip."""
        file = io.BytesIO()
        peak = max(1.0, float(np.abs(self.samples).max(initial=0.0)))
        soundfile.write(file, self.samples / peak, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        return file.getvalue()

    def spectrogram(self) -> bytes:
        """PNG of the log-mel power: one column per 10 ms, low frequencies at the bottom."""
        with without_font_cache():
            from matplotlib.image import imsave

        decibels = log_mel(self.samples)
        top = float(np.percentile(decibels, 99.8))
        file = io.BytesIO()
        imsave(
            file,
            decibels.T,
            format="png",
            origin="lower",
            cmap="magma",
            vmin=top - _DYNAMIC_RANGE_DB,
            vmax=top,
        )
        return file.getvalue()


@dataclass(frozen=True)
class WordErrors:
    """The worst errors of one word."""

    misses: list[ErrorExample]
    alarms: list[ErrorExample]


def collect_error_examples(data: EvaluationData) -> list[WordErrors]:
    """The worst misses and false alarms of each word."""
    targets = data.spotter.events.targets
    limit = max(2, MAX_EXAMPLES // len(targets))
    errors = []
    for index in targets:
        misses = find_worst_misses(data.stream_results[index])
        alarms = _limit_per_recording(find_worst_alarms(data, data.spotter.words[index]))
        errors.append(
            WordErrors(
                [_cut_miss(data, index, each) for each in misses[:limit]],
                [_cut_alarm(data, index, each) for each in alarms[:limit]],
            )
        )
    return errors


def _limit_per_recording(alarms: Sequence[FalseAlarm]) -> list[FalseAlarm]:
    """The alarms in their order, but only the first few of each recording."""
    counts: Counter[Path | None] = Counter()
    chosen = []
    for alarm in alarms:
        counts[alarm.path] += 1
        if counts[alarm.path] <= _MAX_PER_RECORDING:
            chosen.append(alarm)
    return chosen


def _cut_miss(data: EvaluationData, index: int, missed: StreamResult) -> ErrorExample:
    word = Span(missed.stream.start, missed.stream.end)
    return _cut_example(
        data,
        index,
        data.audio(missed),
        word,
        title=f"{format_snr(missed.stream.snr_db)}: score {missed.best_score:.3f}",
        location=str(missed.clip.path),
        word=word,
    )


def _cut_alarm(data: EvaluationData, index: int, alarm: FalseAlarm) -> ErrorExample:
    source, event = alarm.source, Span(alarm.event.start, alarm.event.end)
    score = f"score {alarm.event.score:.3f}"
    title = score if alarm.fired else f"no alarm yet: {score}"
    if isinstance(source, StreamResult):
        noise = format_snr(source.stream.snr_db)
        return _cut_example(
            data,
            index,
            data.audio(source),
            event,
            title=title,
            location=f"{alarm.path}, {event.start:.2f} s into its stream, {noise}",
            word=Span(source.stream.start, source.stream.end),
            event=event,
        )
    assert source.path is not None, "only a recording in a file has examples"
    offset = max(0.0, event.start - _BEFORE_SECONDS - _LEAD_SECONDS)
    samples = recordings.read_excerpt(source.path, offset, event.end + _AFTER_SECONDS)
    event_in_excerpt = event.shifted(-offset)
    return _cut_example(
        data,
        index,
        samples,
        event_in_excerpt,
        title=title,
        location=f"{source.path}, {event.start:.2f} s",
        event=event_in_excerpt,
    )


def _cut_example(
    data: EvaluationData,
    index: int,
    samples: np.ndarray,
    place: Span,
    *,
    title: str,
    location: str,
    word: Span | None = None,
    event: Span | None = None,
) -> ErrorExample:
    """The sound around `place`, with the scores that it has in the whole of `samples`."""
    first = max(0.0, place.start - _BEFORE_SECONDS)
    last = min(place.end + _AFTER_SECONDS, first + _MAX_SECONDS, len(samples) / SAMPLE_RATE)
    scores = data.spotter.scores(samples)
    inside = (scores.times >= first) & (scores.times <= last)
    return ErrorExample(
        title,
        location,
        samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)],
        scores.times[inside] - first,
        scores.pooled[inside, index],
        data.spotter.events.threshold[index],
        word.shifted(-first) if word else None,
        event.shifted(-first) if event else None,
    )
