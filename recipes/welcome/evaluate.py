"""Judges the shipped model on voices and engines it never heard, and on all real speech there is
without the word.

    python recipes/welcome/evaluate.py --data DATA --work WORK
        [--model models/welcome.onnx] [--out docs/welcome.json]

DATA and WORK as for `train.py`. Prints a table; every threshold and every choice was made on
validation audio (`--part validation`), the test part is for the final figures.
"""

import argparse
import csv
import json
import pathlib
import statistics
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import chain

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from train import NEGATIVES, WORD, is_learned, read, unpack

from kws import Spotter
from kws.runtime.engine import Engine
from kws.runtime.postprocess import EventSettings, Scores
from kws.training.data.clips import BACKGROUND
from kws.training.data.dataset import ClipDataset, concatenate_datasets
from kws.training.data.sources import aligned_word
from kws.training.evaluate import scored_words
from kws.training.evaluate.calibration import THRESHOLDS, lowest_threshold_within
from kws.training.evaluate.scored_words import Trial

WORDS = (WORD,)
Interval = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--model", default="models/welcome.onnx")
    parser.add_argument("--recordings", type=pathlib.Path, default=pathlib.Path("recordings"))
    parser.add_argument(
        "--part", choices=["validation", "test"], default="test", help="of the spoken clips"
    )
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    spotter = Spotter.load(args.model)
    data = unpack(args.data, args.work / "data")
    report = judge(spotter, data, args.work / "spoken" / args.part, args.recordings)
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


def judge(
    spotter: Spotter, data: pathlib.Path, spoken: pathlib.Path, recordings: pathlib.Path
) -> dict:
    noises, negatives = noises_of(data), negatives_of(data)
    scores_by_group = score_negatives(spotter.engine, negatives)
    hours = {
        part: sum(dataset.seconds for dataset in datasets) / 3600
        for part, datasets in negatives.items()
    }
    alarms = {
        t: [
            _alarms(negative_scores, spotter.events, t)
            for negative_scores in scores_by_group.values()
        ]
        for t in THRESHOLDS
    }
    within = lowest_threshold_within(
        np.array([sum(alarms[t]) for t in THRESHOLDS]), sum(hours.values())
    )
    at = len(THRESHOLDS) - 1 if within is None else within
    thresholds = {
        "default": spotter.events.threshold[0],
        "1 false alarm per hour of all": THRESHOLDS[at],
    }
    return {
        "negative speech": {
            "hours": round(sum(hours.values()), 2),
            "hours of speakers not trained on": round(hours[False], 2),
            "files": sum(len(dataset) for datasets in negatives.values() for dataset in datasets),
        },
        "results": [
            {
                "threshold": f"{threshold:.4f} ({name})",
                **_false_alarms(scores_by_group, hours, spotter.events, threshold),
                **_at(spotter, threshold, spoken, noises),
            }
            for name, threshold in thresholds.items()
        ],
        "recordings": _recordings(spotter, recordings),
    }


def noises_of(data: pathlib.Path) -> ClipDataset:
    return concatenate_datasets(
        [read(data / "esc10"), read(data / "rir_noise").select(lambda clip: clip.label == "noise")]
    )


def negatives_of(data: pathlib.Path) -> dict[bool, list[ClipDataset]]:
    """All speech without the word: that which was learned from, and that of others."""
    speech = [read(data / name).select(lambda clip: clip.label != BACKGROUND) for name in NEGATIVES]
    return {
        learned: [
            dataset.select(lambda clip, learned=learned: is_learned(clip) == learned)
            for dataset in speech
        ]
        for learned in (True, False)
    }


def score_negatives(engine: Engine, negatives: dict[bool, list[ClipDataset]]) -> dict[bool, Scores]:
    return {
        part: scored_words.score_waves(engine, chain.from_iterable(datasets))
        for part, datasets in negatives.items()
    }


def _alarms(negative_scores, settings: EventSettings, threshold: float) -> int:
    return len(scored_words.events(negative_scores, WORDS, settings.at([threshold])))


def _false_alarms(
    scores_by_group: dict, hours: dict, settings: EventSettings, threshold: float
) -> dict:
    counts = {
        part: _alarms(negative_scores, settings, threshold)
        for part, negative_scores in scores_by_group.items()
    }
    return {
        "false alarms": sum(counts.values()),
        "false alarms per hour": round(sum(counts.values()) / sum(hours.values()), 2),
        "false alarms of speakers not trained on": counts[False],
    }


def _at(spotter: Spotter, threshold: float, spoken: pathlib.Path, noises: ClipDataset) -> dict:
    engine, settings = spotter.engine, spotter.events.at([threshold])
    word = aligned_word(WORD, read(spoken / "word"))
    clean, noisy = placed(engine, word, None, noises), placed(engine, word, 10.0, noises)
    decided = [scored_words.find_decision(trial, 0, WORDS, settings) for trial in clean]
    hits = [(*known, trial) for known, trial in zip(decided, clean, strict=True) if known]
    delay = [time - trial.end for _, time, trial in hits]
    return {
        "clips of the word": len(clean),
        "found, clean": _share(bool(scored_words.found(t, 0, WORDS, settings)) for t in clean),
        "found, 10 dB": _share(bool(scored_words.found(t, 0, WORDS, settings)) for t in noisy),
        "found, 10 dB, by engine": _by_engine(word.dataset, noisy, settings),
        "found in phrases": _fires(engine, read(spoken / "spoken_in"), settings),
        "neighbours that fire": _fires(engine, read(spoken / "neighbours"), settings),
        **_longer_words(engine, spoken / "containing", settings),
        "neighbours that fire, by phrase": _firing_phrases(
            engine, read(spoken / "neighbours"), settings
        ),
        "words with more than one event": sum(
            len(scored_words.events(t.scores, WORDS, settings)) > 1 for t in clean
        ),
        "pairs 1 s apart, by the number of events": _pairs(engine, word, settings),
        "decision after the end, median / p95 (s)": [
            round(float(np.percentile(delay, p)), 3) for p in (50, 95)
        ],
        "start off by, median (s)": round(
            statistics.median(abs(event.start - trial.start) for event, _, trial in hits), 3
        ),
        "end off by, median (s)": round(
            statistics.median(abs(event.end - trial.end) for event, _, trial in hits), 3
        ),
    }


def placed(engine: Engine, word, snr_db: float | None, noises: ClipDataset) -> list[Trial]:
    word_trials = []
    for i in range(len(word.dataset)):
        noise = noises[i % len(noises)] if snr_db is not None else None
        audio = scored_words.embed_in_noise(
            word.dataset[i], word.placed[i], snr_db, seed=i, noise=noise
        )
        word_trials.append(
            scored_words.trial(engine, audio, *(scored_words.LEAD_SECONDS + word.placed[i]))
        )
    return word_trials


def _by_engine(
    dataset: ClipDataset, word_trials: list[Trial], settings: EventSettings
) -> dict[str, float]:
    engines = [clip.path.stem.split("-")[0] for clip in dataset.clips]
    return {
        name: _share(
            bool(scored_words.found(t, 0, WORDS, settings))
            for t, engine in zip(word_trials, engines, strict=True)
            if engine == name
        )
        for name in sorted(set(engines))
    }


def _fires(engine: Engine, dataset: ClipDataset, settings: EventSettings) -> float:
    whole = np.array([0.0, 1.0])
    return _share(
        bool(
            scored_words.events(
                scored_words.trial(
                    engine, scored_words.embed_in_noise(dataset[i], whole, None, i), 0, 0
                ).scores,
                WORDS,
                settings,
            )
        )
        for i in range(len(dataset))
    )


def _longer_words(
    engine: Engine, folder: pathlib.Path, settings: EventSettings
) -> dict[str, float]:
    return (
        {"longer words that contain it and fire": _fires(engine, read(folder), settings)}
        if folder.exists()
        else {}
    )


def _firing_phrases(
    engine: Engine, dataset: ClipDataset, settings: EventSettings
) -> dict[str, int]:
    phrases = sorted({clip.label for clip in dataset.clips})
    chosen = {
        phrase: dataset.select(lambda clip, phrase=phrase: clip.label == phrase)
        for phrase in phrases
    }
    return {
        phrase: round(_fires(engine, some, settings) * len(some))
        for phrase, some in chosen.items()
        if _fires(engine, some, settings)
    }


def _pairs(engine: Engine, word, settings: EventSettings) -> dict[str, int]:
    """Pairs of the same clip spoken 1 s apart (start to start, or end to start plus 0.1 s for
    longer ones): should be two events each."""

    def count(i: int) -> int:
        wave = word.dataset[i]
        audio = np.zeros(max(16_000, len(wave) + 1600) + len(wave), np.float32)
        audio[: len(wave)] += wave
        audio[-len(wave) :] += wave
        return len(
            scored_words.events(
                scored_words.trial(
                    engine, scored_words.embed_in_noise(audio, np.array([0, 1]), None, i), 0, 0
                ).scores,
                WORDS,
                settings,
            )
        )

    return {
        str(events): pairs
        for events, pairs in sorted(Counter(count(i) for i in range(len(word.dataset))).items())
    }


def _recordings(spotter: Spotter, folder: pathlib.Path) -> dict:
    truth: dict[str, list[Interval]] = {path.name: [] for path in sorted(folder.glob("*.wav"))}
    for row in csv.DictReader((folder / "events.csv").open()):
        truth[row["file"]].append((float(row["start"]), float(row["end"])))
    found = {
        name: [(event.start, event.end) for event in spotter.detect(folder / name)]
        for name in truth
    }
    return {name: {"truth": truth[name], "found": found[name]} for name in truth}


def _share(hits: Iterable[bool]) -> float:
    return round(statistics.fmean(hits), 4)


if __name__ == "__main__":
    main()
