"""Judges the shipped model on voices and engines it never heard, and on all real speech there is
without the word.

    python recipes/welcome/evaluate.py --data DATA --work WORK
        [--model models/welcome.onnx] [--out docs/models/welcome.json]

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

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from train import NEGATIVES, WORD, is_learned, read, unpack

from kws import Spotter
from kws.training.data.clips import BACKGROUND
from kws.training.data.dataset import ClipDataset, concatenate_datasets
from kws.training.data.sources import WordClips, aligned_word
from kws.training.evaluate.calibration import THRESHOLDS, lowest_threshold_within
from kws.training.evaluate.scoring import (
    ScoredRecording,
    ScoredWord,
    count_alarms,
    count_hits,
    map_in_parallel,
    score_clips,
    score_word,
    total_hours,
)
from kws.training.evaluate.test_streams import embed_word

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
    scored = score_negatives(spotter, negatives)
    everything = [*scored[True], *scored[False]]
    hours = total_hours(everything)
    within = lowest_threshold_within(count_alarms(everything, WORD, THRESHOLDS), hours)
    at = len(THRESHOLDS) - 1 if within is None else within
    thresholds = {
        "the model's own": spotter.events.threshold[0],
        "1 false alarm per hour": THRESHOLDS[at],
    }
    return {
        "negatives": {
            "hours": round(hours, 2),
            "unseen_speaker_hours": round(total_hours(scored[False]), 2),
            "recordings": len(everything),
        },
        "results": [
            {
                "operating_point": name,
                "threshold": threshold,
                **_false_alarms(scored, threshold),
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


def score_negatives(
    spotter: Spotter, negatives: dict[bool, list[ClipDataset]]
) -> dict[bool, list[ScoredRecording]]:
    return {
        learned: [each for dataset in datasets for each in score_clips(spotter, dataset)]
        for learned, datasets in negatives.items()
    }


def _false_alarms(scored: dict[bool, list[ScoredRecording]], threshold: float) -> dict:
    counts = {
        learned: int(count_alarms(recordings, WORD, [threshold])[0])
        for learned, recordings in scored.items()
    }
    hours = sum(map(total_hours, scored.values()))
    return {
        "false_alarms": sum(counts.values()),
        "false_alarms_per_hour": round(sum(counts.values()) / hours, 2),
        "unseen_speaker_false_alarms": counts[False],
    }


def _at(spotter: Spotter, threshold: float, spoken: pathlib.Path, noises: ClipDataset) -> dict:
    word = aligned_word(WORD, read(spoken / "word"))
    clean, noisy = (score_embedded(spotter, word, snr_db, noises) for snr_db in (None, 10.0))
    matches = [each.match(threshold) for each in clean]
    hits = [(match.hit, each) for match, each in zip(matches, clean, strict=True) if match.hit]
    delay = [hit.decision_seconds - each.end for hit, each in hits]
    return {
        "clips": len(clean),
        "hit_rate_clean": _hit_share(clean, threshold),
        "hit_rate_10_db": _hit_share(noisy, threshold),
        "hit_rate_10_db_by_engine": _by_engine(word.dataset, noisy, threshold),
        "hit_rate_in_phrases": _fires(spotter, read(spoken / "spoken_in"), threshold),
        "confusables_that_fire": _fires(spotter, read(spoken / "neighbours"), threshold),
        **_longer_words(spotter, spoken / "containing", threshold),
        "firing_confusables": _firing_phrases(spotter, read(spoken / "neighbours"), threshold),
        "clips_with_several_events": sum(
            bool(match.hit) + len(match.duplicates) + len(match.false_alarms) > 1
            for match in matches
        ),
        "pairs_1_s_apart": _pairs(spotter, word, threshold),
        "latency_seconds": {
            "median": round(float(np.percentile(delay, 50)), 3),
            "p95": round(float(np.percentile(delay, 95)), 3),
        },
        "start_error_seconds": round(
            statistics.median(abs(hit.event.start - each.start) for hit, each in hits), 3
        ),
        "end_error_seconds": round(
            statistics.median(abs(hit.event.end - each.end) for hit, each in hits), 3
        ),
    }


def score_embedded(
    spotter: Spotter, word: WordClips, snr_db: float | None, noises: ClipDataset
) -> list[ScoredWord]:
    """Scores each clip of a word between silences, in recorded noise at `snr_db` or in none."""

    def score(i: int) -> ScoredWord:
        noise = noises[i % len(noises)]
        embedded = embed_word(word.dataset[i], word.endpoints[i], snr_db, noise=noise)
        return score_word(spotter, 0, embedded)

    return list(map_in_parallel(score, range(len(word.dataset))))


def _hit_share(scored_words: list[ScoredWord], threshold: float) -> float:
    return round(float(count_hits(scored_words, [threshold])[0]) / len(scored_words), 4)


def _by_engine(
    dataset: ClipDataset, scored_words: list[ScoredWord], threshold: float
) -> dict[str, float]:
    by_engine: dict[str, list[ScoredWord]] = {}
    for clip, scored in zip(dataset.clips, scored_words, strict=True):
        by_engine.setdefault(clip.path.stem.split("-")[0], []).append(scored)
    return {name: _hit_share(by_engine[name], threshold) for name in sorted(by_engine)}


def _count_fires(spotter: Spotter, dataset: ClipDataset, threshold: float) -> int:
    """Number of clips in which there is an event."""
    return sum(bool(each.events({WORD: threshold})) for each in score_clips(spotter, dataset))


def _fires(spotter: Spotter, dataset: ClipDataset, threshold: float) -> float:
    return round(_count_fires(spotter, dataset, threshold) / len(dataset), 4)


def _longer_words(spotter: Spotter, folder: pathlib.Path, threshold: float) -> dict[str, float]:
    if not folder.exists():
        return {}
    return {"longer_words_that_fire": _fires(spotter, read(folder), threshold)}


def _firing_phrases(spotter: Spotter, dataset: ClipDataset, threshold: float) -> list[dict]:
    rows = []
    for phrase in sorted({clip.label for clip in dataset.clips}):
        clips = dataset.select(lambda clip, phrase=phrase: clip.label == phrase)
        rows.append({"phrase": phrase, "clips": _count_fires(spotter, clips, threshold)})
    return [row for row in rows if row["clips"]]


def _pairs(spotter: Spotter, word: WordClips, threshold: float) -> list[dict[str, int]]:
    """Pairs of the same clip spoken 1 s apart (start to start, or end to start plus 0.1 s for
    longer ones): should be two events each."""
    pairs = []
    for wave in word.dataset:
        audio = np.zeros(max(16_000, len(wave) + 1600) + len(wave), np.float32)
        audio[: len(wave)] += wave
        audio[-len(wave) :] += wave
        pairs.append(audio)
    counts = Counter(len(each.events({WORD: threshold})) for each in score_clips(spotter, pairs))
    return [{"events": events, "pairs": counts[events]} for events in sorted(counts)]


def _recordings(spotter: Spotter, folder: pathlib.Path) -> list[dict]:
    truth: dict[str, list[Interval]] = {path.name: [] for path in sorted(folder.glob("*.wav"))}
    for row in csv.DictReader((folder / "events.csv").open()):
        truth[row["file"]].append((float(row["start"]), float(row["end"])))
    found = {
        name: [(event.start, event.end) for event in spotter.detect(folder / name)]
        for name in truth
    }
    return [{"file": name, "truth": truth[name], "found": found[name]} for name in truth]


if __name__ == "__main__":
    main()
