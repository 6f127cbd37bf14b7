"""How good a detector is on held-out recordings: validation during training, then the choice of its
verifier, its thresholds, and the document of its model file."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.folders import sibling_path
from kws.audio.recordings import SAMPLE_RATE
from kws.runtime.engine import Engine
from kws.runtime.postprocess import EventSettings
from kws.training.data.dataset import ClipDataset
from kws.training.data.keyword_data import KeywordData, heldout_waves
from kws.training.data.sources import WordClips, aligned_word
from kws.training.evaluate import scored_words
from kws.training.evaluate.calibration import (
    CALIBRATION_RATES,
    DEFAULT_THRESHOLD,
    DEFAULT_THRESHOLD_WITH_VERIFIER,
    calibrate,
    is_rate_measurable,
    set_default_thresholds,
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
    settings = _default_settings(network)
    engine = load_uncalibrated(network, scratch, settings)
    miss_rates = [
        scored_words.miss_rate(
            _score_clips(engine, word, NOISY_SNR_DB, VALIDATION_CLIPS),
            index,
            keyword_data.names,
            settings,
        )
        for index, word in enumerate(keyword_data.heldout_words)
    ]
    waves = heldout_waves(keyword_data, VALIDATION_SECONDS)
    hours = sum(map(len, waves)) / SAMPLE_RATE / 3600
    scores = scored_words.score_waves(engine, waves)
    alarms = len(scored_words.events(scores, keyword_data.names, settings))
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
) -> dict:
    """Chooses a verifier and thresholds, and writes the model file. Returns its document, to which
    `model_card` adds."""
    logger.info("exporting and calibrating")
    scratch = sibling_path(path, ".basis.onnx")
    network = state.ema_network
    verifier = select_verifier(network, keyword_data, scratch, verifier_candidates)
    document = {
        **calibrate_network(network, keyword_data, scratch, verifier),
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
            "no verifier: too little other speech is held out "
            f"({keyword_data.heldout_hours:.2f} h) to tell if it would help; add --negatives"
        )
        return None
    miss_rates = [
        _noisy_miss_rate(
            load_uncalibrated(network, scratch, _default_settings(network), candidate),
            keyword_data,
            rate,
        )
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


def _noisy_miss_rate(engine: Engine, keyword_data: KeywordData, rate: float) -> float:
    """Mean over the words at no more than `rate` false alarms per hour; 1 for a word with which
    every threshold has more."""
    words = [
        _score_clips(engine, word, NOISY_SNR_DB, VALIDATION_CLIPS)
        for word in keyword_data.heldout_words
    ]
    table = _calibration_table(engine, keyword_data, words)
    miss_rates = {
        row["word"]: row.get("miss_rate", 0.0)
        for row in table["rows"]
        if row["false_alarms_per_hour"] == rate
    }
    return float(np.mean([miss_rates.get(word, 1.0) for word in keyword_data.names]))


def calibrate_network(
    network: ScanningCNN, keyword_data: KeywordData, scratch: Path, verifier: VerifierSpec | None
) -> dict:
    """The entries of a model's document that describe the network, its thresholds and its latency,
    measured on held-out recordings."""
    engine = load_uncalibrated(network, scratch, _default_settings(network), verifier)
    words = [_score_clips(engine, word) for word in keyword_data.heldout_words]
    table = _calibration_table(engine, keyword_data, words)
    fallback = DEFAULT_THRESHOLD_WITH_VERIFIER if verifier else DEFAULT_THRESHOLD
    settings = set_default_thresholds(
        engine.info.events, keyword_data.names, table, [fallback] * len(words)
    )
    document = {
        **describe_network(network, settings),
        "latency_seconds": _median_latency_seconds(words, keyword_data.names, settings),
        "calibration": table,
    }
    if keyword_data.heldout_confusables:
        document["confusables"] = _count_confusable_alarms(
            engine, keyword_data.heldout_confusables, settings
        )
    return document


def _calibration_table(
    engine: Engine, keyword_data: KeywordData, words: list[list[scored_words.Trial]]
) -> dict:
    """Thresholds, false alarms and misses by `words`, the scored clips of each word."""
    negative_scores = scored_words.score_waves(engine, heldout_waves(keyword_data))
    hours = keyword_data.heldout_hours
    return calibrate(engine, words, negative_scores, hours, engine.info.events)


def _count_confusable_alarms(
    engine: Engine, confusables: ClipDataset, settings: EventSettings
) -> dict:
    """How many clips of phrases that sound like the words make the model fire."""
    trials = _score_clips(engine, aligned_word("", confusables))
    fires = [bool(scored_words.events(each.scores, engine.info.words, settings)) for each in trials]
    return {"clips": len(fires), "alarms": sum(fires)}


def _median_latency_seconds(
    words: list[list[scored_words.Trial]], names: tuple[str, ...], settings: EventSettings
) -> float | None:
    """Median time from the end of a held-out word to its event; None if all are missed."""
    delays = []
    for index, trials in enumerate(words):
        for trial in trials:
            decision = scored_words.find_decision(trial, index, names, settings)
            if decision:
                _, decision_seconds = decision
                delays.append(decision_seconds - trial.end)
    return round(float(np.median(delays)), 3) if delays else None


def _score_clips(
    engine: Engine, word: WordClips, snr_db: float | None = None, limit: int | None = None
) -> list[scored_words.Trial]:
    """Scores of the clips of a word, or of the first `limit`, in noise at this SNR or in none."""
    count = len(word.dataset) if limit is None else min(len(word.dataset), limit)
    waves = [word.dataset[i] for i in range(count)]
    return scored_words.score_words(engine, waves, word.endpoints[:count], snr_db)


def _default_settings(network: ScanningCNN) -> EventSettings:
    return EventSettings((0.5,) * len(network.config.words))
