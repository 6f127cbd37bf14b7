"""Errors to be looked at and listened to: a few seconds of sound around each, as spectrogram (PNG),
score track and WAV."""

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
from kws.training.evaluate.test_streams import EvaluationStreams
from kws.training.report.text import format_snr

MAX_EXAMPLES = 12  # of each kind and word; fewer where there are many words
_BEFORE_SECONDS, _AFTER_SECONDS = 1.2, 0.8
_MAX_SECONDS = 4.0
_MAX_PER_RECORDING = 3
_LEAD_SECONDS = 2.0  # heard before the excerpt, so that its scores are those of the whole recording
_DYNAMIC_RANGE_DB = 65.0

Span = tuple[float, float]


@dataclass(frozen=True)
class ErrorExample:
    """One error. Seconds count from the beginning of the excerpt."""

    title: str
    location: str
    samples: np.ndarray
    times: np.ndarray
    scores: np.ndarray
    threshold: float
    word: Span | None  # where the word is said
    event: Span | None  # where it was heard

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def wav(self) -> bytes:
        """The sound, 16 bits; turned down where it would be cut off."""
        file = io.BytesIO()
        peak = max(1.0, float(np.abs(self.samples).max(initial=0.0)))
        soundfile.write(file, self.samples / peak, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        return file.getvalue()

    def spectrogram(self) -> bytes:
        """Log-mel powers, one column for 10 ms, low frequencies at the bottom."""
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
class Errors:
    """The worst of one word."""

    misses: list[ErrorExample]
    alarms: list[ErrorExample]


def collect_error_examples(
    evaluation_data: EvaluationData, streams: Sequence[EvaluationStreams]
) -> list[Errors]:
    """The worst misses and false alarms of each word; streams: of each word those that `evaluation_data`
    was heard in."""
    cutter = _ExampleCutter(evaluation_data, streams)
    targets = evaluation_data.spotter.events.targets
    most = max(2, MAX_EXAMPLES // len(targets))
    return [
        Errors(
            [
                cutter.miss(index, each)
                for each in find_worst_misses(evaluation_data.stream_results[index])[:most]
            ],
            [
                cutter.alarm(index, each)
                for each in _limit_per_recording(
                    find_worst_alarms(evaluation_data, evaluation_data.spotter.words[index])
                )
            ][:most],
        )
        for index in targets
    ]


def _limit_per_recording(alarms: Sequence[FalseAlarm]) -> list[FalseAlarm]:
    """Alarms, but not of one recording again and again: of each the worst few."""
    counts: Counter[Path | None] = Counter()
    chosen = []
    for alarm in alarms:
        counts[alarm.path] += 1
        if counts[alarm.path] <= _MAX_PER_RECORDING:
            chosen.append(alarm)
    return chosen


@dataclass(frozen=True)
class _ExampleCutter:
    evaluation_data: EvaluationData
    streams: Sequence[EvaluationStreams]

    def miss(self, word: int, missed: StreamResult) -> ErrorExample:
        stream = missed.stream
        place = (stream.start, stream.end)
        return self._cut_example(
            word,
            self._audio(missed),
            place,
            f"{format_snr(stream.snr_db)}: score {missed.best_score:.3f}",
            str(missed.clip.path),
            word=place,
        )

    def alarm(self, word: int, alarm: FalseAlarm) -> ErrorExample:
        source, event = alarm.source, alarm.event
        title = (
            f"score {event.score:.3f}" if alarm.fired else f"no alarm yet: score {event.score:.3f}"
        )
        place = (event.start, event.end)
        if isinstance(source, StreamResult):
            stream = source.stream
            location = f"{source.clip.path}, {event.start:.2f} s into its stream, {format_snr(stream.snr_db)}"
            return self._cut_example(
                word,
                self._audio(source),
                place,
                title,
                location,
                event=place,
                word=(stream.start, stream.end),
            )
        assert source.path is not None
        offset = max(0.0, event.start - _BEFORE_SECONDS - _LEAD_SECONDS)
        samples = recordings.read_excerpt(source.path, offset, event.end + _AFTER_SECONDS)
        place = (event.start - offset, event.end - offset)
        return self._cut_example(
            word, samples, place, title, f"{source.path}, {event.start:.2f} s", event=place
        )

    def _audio(self, stream_results: StreamResult) -> np.ndarray:
        word = next(
            i
            for i, each in enumerate(self.evaluation_data.stream_results)
            if any(stream_results is one for one in each)
        )
        return self.streams[word].audio(stream_results.stream)

    def _cut_example(
        self,
        index: int,
        samples: np.ndarray,
        place: Span,
        title: str,
        location: str,
        *,
        word: Span | None = None,
        event: Span | None = None,
    ) -> ErrorExample:
        """The sound about `place`, with the scores that it has in the whole of `samples`."""
        first = max(0.0, place[0] - _BEFORE_SECONDS)
        last = min(place[1] + _AFTER_SECONDS, first + _MAX_SECONDS, len(samples) / SAMPLE_RATE)
        spotter = self.evaluation_data.spotter
        scores = spotter.scores(samples)
        inside = (scores.times >= first) & (scores.times <= last)
        return ErrorExample(
            title,
            location,
            samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)],
            scores.times[inside] - first,
            scores.pooled[inside, index],
            spotter.events.threshold[index],
            _shift_span(word, first),
            _shift_span(event, first),
        )


def _shift_span(span: Span | None, by: float) -> Span | None:
    return None if span is None else (span[0] - by, span[1] - by)
