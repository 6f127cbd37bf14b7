"""How good a detector is on held-out recordings: validation during training, then the choice of its
verifier, its thresholds, and the document of its model file."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.durations import format_duration
from kws.audio.folders import sibling_path
from kws.runtime.postprocess import EventSettings
from kws.runtime.spotter import Spotter
from kws.training.data.keyword_data import KeywordData, heldout_waves
from kws.training.data.miss_clips import MissClips
from kws.training.evaluate.calibration import (
    CALIBRATION_RATES,
    DEFAULT_RATE,
    DEFAULT_THRESHOLD,
    DEFAULT_THRESHOLD_WITH_VERIFIER,
    calibrate,
    set_default_thresholds,
)
from kws.training.evaluate.hours import is_rate_measurable
from kws.training.evaluate.scoring import (
    ScoredRecording,
    ScoredWord,
    count_hits,
    score_clips,
    score_words,
    total_hours,
)
from kws.training.fit.model_card import describe_network, describe_training, load_uncalibrated
from kws.training.fit.state import TrainState
from kws.training.model.export import export
from kws.training.model.network import ScanningCNN
from kws.training.model.pretrained import VerifierSpec

VALIDATION_CLIPS = 200  # of each word, at most
VALIDATION_SECONDS = 1200.0  # of audio without the words, at most
NOISY_SNR_DB = 10.0

logger = logging.getLogger("kws")


def validate(network: ScanningCNN, keyword_data: KeywordData, scratch: Path) -> dict:
    """Mean miss rate of the held-out words at 10 dB, and false alarms per hour of other held-out
    audio (None without any), at a threshold of 0.5. `scratch`: a file that is written and
    deleted."""
    spotter = _load_spotter(network, scratch)
    thresholds = dict(zip(spotter.words, spotter.events.threshold, strict=True))
    miss_rates = [
        1 - count_hits(words, [thresholds[name]])[0] / len(words)
        for name, words in zip(
            spotter.words, _score_noisy_words(spotter, keyword_data), strict=True
        )
    ]
    recordings = score_clips(spotter, heldout_waves(keyword_data, VALIDATION_SECONDS))
    hours = total_hours(recordings)
    alarms = sum(len(each.events(thresholds)) for each in recordings)
    return {
        "miss_rate": round(float(np.mean(miss_rates)), 4),
        "false_alarms_per_hour": round(alarms / hours, 2) if hours else None,
    }


def export_calibrated(
    state: TrainState,
    keyword_data: KeywordData,
    path: Path,
    model_card: dict[str, Any],
    verifier_candidates: Sequence[VerifierSpec | None],
    rate: float = DEFAULT_RATE,
) -> dict:
    """Chooses a verifier and thresholds, and writes the model file. Returns its document, to which
    `model_card` adds. rate: false alarms per hour at the default threshold."""
    logger.info("exporting and calibrating")
    scratch = sibling_path(path, ".basis.kws")
    network = state.ema_network
    verifier = select_verifier(network, keyword_data, scratch, verifier_candidates)
    document = {
        **calibrate_network(network, keyword_data, scratch, verifier, rate),
        **describe_training(state, notes=keyword_data.notes),
        "sources": list(keyword_data.sources),
        **model_card,
    }
    export(network, document, path, verifier)
    return document


def select_verifier(
    network: ScanningCNN,
    keyword_data: KeywordData,
    scratch: Path,
    candidates: Sequence[VerifierSpec | None],
) -> VerifierSpec | None:
    """The candidate with which fewest held-out words are missed in noise, the earlier of equals.

    Of several candidates the first must be None, no verifier; it is chosen where too little other
    audio is held out to compare.
    """
    if len(candidates) == 1:
        return candidates[0]
    rate = _lowest_measurable_rate(keyword_data.heldout_hours)
    if rate is None:
        logger.info(
            f"no verifier: {format_duration(keyword_data.heldout_hours)} of other speech are held "
            "out, too little to tell if it would help; add --negatives"
        )
        return None
    miss_rates = [
        _noisy_miss_rate(_load_spotter(network, scratch, candidate), keyword_data, rate)
        for candidate in candidates
    ]
    best = int(np.argmin(miss_rates))
    conclusion = "verifier used" if best else "no verifier, it would not help"
    logger.info(
        f"{conclusion}: {min(miss_rates[1:]):.1%} of the held-out words are missed in noise with "
        f"it, {miss_rates[0]:.1%} without, at {rate:g} false alarms/h"
    )
    return candidates[best]


def _lowest_measurable_rate(hours: float) -> float | None:
    """The lowest rate of at least one false alarm per hour that so many hours can show."""
    rates = (rate for rate in CALIBRATION_RATES if rate >= 1 and is_rate_measurable(hours, rate))
    return min(rates, default=None)


def _noisy_miss_rate(spotter: Spotter, keyword_data: KeywordData, rate: float) -> float:
    """Mean over the words at no more than `rate` false alarms per hour; 1 for a word with which
    every threshold has more."""
    table = _calibrate(spotter, keyword_data, _score_noisy_words(spotter, keyword_data))
    miss_rates = {
        row["word"]: row.get("miss_rate", 0.0)
        for row in table["rows"]
        if row["false_alarms_per_hour"] == rate
    }
    return float(np.mean([miss_rates.get(word, 1.0) for word in keyword_data.names]))


def calibrate_network(
    network: ScanningCNN,
    keyword_data: KeywordData,
    scratch: Path,
    verifier: VerifierSpec | None,
    rate: float = DEFAULT_RATE,
) -> dict:
    """The entries of a model's document that describe the network, its thresholds and its latency,
    measured on held-out recordings. rate: false alarms per hour at the default threshold."""
    spotter = _load_spotter(network, scratch, verifier)
    miss_clips = keyword_data.miss_clips or MissClips(keyword_data.heldout_words, "held-out clips")
    words = [
        list(score_words(spotter, index, word.dataset, word.endpoints))
        for index, word in enumerate(miss_clips.words)
    ]
    table = {
        **_calibrate(spotter, keyword_data, words, rate),
        "misses_measured_on": miss_clips.description,
    }
    fallback = DEFAULT_THRESHOLD_WITH_VERIFIER if verifier else DEFAULT_THRESHOLD
    settings = set_default_thresholds(spotter.events, spotter.words, table, [fallback] * len(words))
    document = {
        **describe_network(network, settings),
        "latency_seconds": _median_latency_seconds(words, settings),
        "calibration": table,
    }
    if keyword_data.heldout_confusables:
        thresholds = dict(zip(spotter.words, settings.threshold, strict=True))
        confusables = score_clips(spotter, keyword_data.heldout_confusables)
        document["confusables"] = {
            "clips": len(confusables),
            "alarms": sum(bool(each.events(thresholds)) for each in confusables),
        }
    return document


def _calibrate(
    spotter: Spotter,
    keyword_data: KeywordData,
    words: Sequence[Sequence[ScoredWord]],
    rate: float = DEFAULT_RATE,
) -> dict:
    """The calibration table by the scored clips of each word and the held-out negatives."""
    recordings: list[ScoredRecording] = []
    for dataset in keyword_data.heldout_negatives:
        recordings += score_clips(spotter, dataset)
    return calibrate(spotter.words, spotter.events, words, recordings, rate)


def _median_latency_seconds(
    words: Sequence[Sequence[ScoredWord]], settings: EventSettings
) -> float | None:
    """Median time from the end of a held-out word to its event; None if all are missed, or where
    the words end in their clips is unknown."""
    delays = []
    for threshold, scored_words in zip(settings.threshold, words, strict=True):
        for word in scored_words:
            hit = word.match(threshold).hit
            if hit and word.is_aligned:
                delays.append(hit.decision_seconds - word.end)
    return round(float(np.median(delays)), 3) if delays else None


def _score_noisy_words(spotter: Spotter, keyword_data: KeywordData) -> list[list[ScoredWord]]:
    """The first held-out clips of each word, in noise."""
    return [
        list(
            score_words(
                spotter, index, word.dataset, word.endpoints[:VALIDATION_CLIPS], NOISY_SNR_DB
            )
        )
        for index, word in enumerate(keyword_data.heldout_words)
    ]


def _load_spotter(
    network: ScanningCNN, scratch: Path, verifier: VerifierSpec | None = None
) -> Spotter:
    """The network with a threshold of 0.5 for each word."""
    settings = EventSettings((0.5,) * len(network.config.words))
    return Spotter(load_uncalibrated(network, scratch, settings, verifier), settings)
