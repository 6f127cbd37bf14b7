"""How many hours without the words were scored, of what kind, and which rates of false alarms they
can show."""

import math
from collections.abc import Iterable, Mapping

from kws.audio.durations import format_duration
from kws.training.data.clips import MUSIC, NOISE, SPEECH
from kws.training.evaluate.scoring import ScoredRecording, total_hours

# Single words and the like: they say little about running speech.
SHORT_CLIPS, SHORT_CLIP_SECONDS = "short_clips", 2.0
_DESCRIPTIONS = {
    SPEECH: "of speech",
    SHORT_CLIPS: f"in clips below {SHORT_CLIP_SECONDS:g} s",
    MUSIC: "of music",
    NOISE: "of noise",
}


def group_by_kind(
    scored_recordings: Iterable[ScoredRecording],
) -> dict[str, list[ScoredRecording]]:
    """Recordings of running speech, short clips of speech, music and noise; those kinds only that
    there are."""
    groups: dict[str, list[ScoredRecording]] = {kind: [] for kind in _DESCRIPTIONS}
    for each in scored_recordings:
        is_short = each.kind == SPEECH and each.seconds < SHORT_CLIP_SECONDS
        groups[SHORT_CLIPS if is_short else each.kind].append(each)
    return {kind: group for kind, group in groups.items() if group}


def hours_by_kind(scored_recordings: Iterable[ScoredRecording]) -> dict[str, float]:
    """The hours of each kind of `group_by_kind`."""
    groups = group_by_kind(scored_recordings)
    return {kind: round(total_hours(group), 5) for kind, group in groups.items()}


def describe_hours(by_kind: Mapping[str, float]) -> str:
    """The hours of each kind in words, such as "5.20 h of speech, 0.80 h of music"."""
    parts = [f"{format_duration(by_kind[kind])} {_DESCRIPTIONS[kind]}" for kind in by_kind]
    return ", ".join(parts) or format_duration(0.0)


def is_rate_measurable(hours: float, rate: float) -> bool:
    """Whether `hours` of audio are enough for `rate` alarms per hour: at least one is expected."""
    return rate * hours >= 1


def lowest_measurable_rate(hours: float) -> float:
    """The lowest rate per hour that so many hours can show, rounded up to two digits; infinity for
    none."""
    if hours <= 0:
        return math.inf
    step = 10.0 ** (math.floor(math.log10(1 / hours)) - 1)
    # A rate that is even but for the rounding of floats is not rounded up.
    return float(f"{math.ceil(1 / hours / step - 1e-9) * step:.2g}")


def explain_too_few_hours(hours: float) -> str:
    """Which rates so many hours cannot show."""
    if hours <= 0:
        return "there is no audio without the word"
    lowest = lowest_measurable_rate(hours)
    return f"{format_duration(hours)} cannot show fewer than {lowest:g} per hour"
