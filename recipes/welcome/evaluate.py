"""Evaluates the shipped model on voices and engines that it was not trained on, and on all speech
without the word.

    python recipes/welcome/evaluate.py --data DATA --work WORK
        [--model models/welcome.kws] [--out docs/models/welcome.json]

DATA and WORK as for train.py. Every threshold and every choice was made on the validation split;
the test split is for the final figures.
"""

import argparse
import csv
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.report import add_out_option, print_report
from kws import Spotter
from kws.training.data.clips import BACKGROUND, Clip
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
from recipes.welcome.train import NEGATIVES, WORD, is_trained_on, read_clips, unpack

SNR_DB = 10.0
PAIR_SAMPLES, PAIR_GAP_SAMPLES = 16_000, 1_600


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder of intermediate files")
    parser.add_argument("--model", default="models/welcome.kws")
    parser.add_argument("--recordings", type=Path, default=Path("recordings"))
    parser.add_argument(
        "--split", choices=("validation", "test"), default="test", help="of the synthetic clips"
    )
    add_out_option(parser)
    args = parser.parse_args()
    spotter = Spotter.load(args.model)
    data = unpack(args.data, args.work / "data")
    synth = args.work / "synth" / args.split
    print_report(evaluate(spotter, data, synth, args.recordings), args.out)


def evaluate(spotter: Spotter, data: Path, synth: Path, recordings: Path) -> dict:
    """Metrics at the model's own threshold, and at one false alarm per hour."""
    noises = read_noises(data)
    seen, unseen = score_negatives(spotter, data)
    counts = count_alarms([*seen, *unseen], WORD, THRESHOLDS)
    within = lowest_threshold_within(counts, total_hours([*seen, *unseen]))
    thresholds = {
        "the model's own": spotter.events.threshold[0],
        "1 false alarm per hour": THRESHOLDS[-1 if within is None else within],
    }
    return {
        "negatives": {
            "hours": round(total_hours([*seen, *unseen]), 2),
            "unseen_speaker_hours": round(total_hours(unseen), 2),
            "recordings": len(seen) + len(unseen),
        },
        "results": [
            {
                "operating_point": name,
                "threshold": threshold,
                **_false_alarm_metrics(seen, unseen, threshold),
                **_synthetic_metrics(spotter, threshold, synth, noises),
            }
            for name, threshold in thresholds.items()
        ],
        "recordings": _detect_recordings(spotter, recordings),
    }


def read_noises(data: Path) -> ClipDataset:
    rir_noise = read_clips(data / "rir_noise")
    noise = rir_noise.select(lambda clip: clip.label == "noise")
    return concatenate_datasets([read_clips(data / "esc10"), noise])


def score_negatives(
    spotter: Spotter, data: Path
) -> tuple[list[ScoredRecording], list[ScoredRecording]]:
    """All speech without the word: recordings that the model was trained on, and the others."""
    seen, unseen = [], []
    for name in NEGATIVES:
        dataset = read_clips(data / name).select(lambda clip: clip.label != BACKGROUND)
        seen += score_clips(spotter, dataset.select(is_trained_on))
        unseen += score_clips(spotter, dataset.select(lambda clip: not is_trained_on(clip)))
    return seen, unseen


def _false_alarm_metrics(
    seen: list[ScoredRecording], unseen: list[ScoredRecording], threshold: float
) -> dict:
    alarms = int(count_alarms([*seen, *unseen], WORD, [threshold])[0])
    return {
        "false_alarms": alarms,
        "false_alarms_per_hour": round(alarms / total_hours([*seen, *unseen]), 2),
        "unseen_speaker_false_alarms": int(count_alarms(unseen, WORD, [threshold])[0]),
    }


def _synthetic_metrics(
    spotter: Spotter, threshold: float, synth: Path, noises: ClipDataset
) -> dict:
    word = aligned_word(WORD, read_clips(synth / "word"))
    clean = score_embedded(spotter, word, None, noises)
    noisy = score_embedded(spotter, word, SNR_DB, noises)
    confusables = read_clips(synth / "confusables")
    matches = [each.match(threshold) for each in clean]
    hits = [(match.hit, each) for match, each in zip(matches, clean, strict=True) if match.hit]
    latencies = [hit.decision_seconds - each.end for hit, each in hits]
    start_errors = [abs(hit.event.start - each.start) for hit, each in hits]
    end_errors = [abs(hit.event.end - each.end) for hit, each in hits]
    metrics = {
        "clips": len(clean),
        "hit_rate_clean": _hit_rate(clean, threshold),
        "hit_rate_10_db": _hit_rate(noisy, threshold),
        "hit_rate_10_db_by_engine": _hit_rate_by_engine(word.dataset, noisy, threshold),
        "hit_rate_in_context": _firing_rate(spotter, read_clips(synth / "in_context"), threshold),
        "confusables_that_fire": _firing_rate(spotter, confusables, threshold),
        "firing_confusables": _firing_phrases(spotter, confusables, threshold),
        "clips_with_several_events": sum(
            bool(match.hit) + len(match.duplicates) + len(match.false_alarms) > 1
            for match in matches
        ),
        "pairs_1_s_apart": _pairs(spotter, word, threshold),
        "latency_seconds": {
            "median": _percentile(latencies, 50),
            "p95": _percentile(latencies, 95),
        },
        "start_error_seconds": _percentile(start_errors, 50),
        "end_error_seconds": _percentile(end_errors, 50),
    }
    if (synth / "containing").exists():
        containing = read_clips(synth / "containing")
        metrics["longer_words_that_fire"] = _firing_rate(spotter, containing, threshold)
    return metrics


def _percentile(values: list[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if values else None


def score_embedded(
    spotter: Spotter, word: WordClips, snr_db: float | None, noises: ClipDataset
) -> list[ScoredWord]:
    """Scores each clip of a word between silences, in recorded noise at `snr_db` or in none."""

    def score(number: int) -> ScoredWord:
        embedded = embed_word(
            word.dataset[number],
            word.endpoints[number],
            snr_db,
            noise=noises[number % len(noises)],
        )
        return score_word(spotter, 0, embedded)

    return list(map_in_parallel(score, range(len(word.dataset))))


def _hit_rate(scored_words: list[ScoredWord], threshold: float) -> float:
    return round(float(count_hits(scored_words, [threshold])[0]) / len(scored_words), 4)


def _hit_rate_by_engine(
    dataset: ClipDataset, scored_words: list[ScoredWord], threshold: float
) -> dict[str, float]:
    by_engine = defaultdict(list)
    for clip, scored in zip(dataset.clips, scored_words, strict=True):
        by_engine[clip.path.stem.split("-")[0]].append(scored)
    return {name: _hit_rate(by_engine[name], threshold) for name in sorted(by_engine)}


def _find_firing(spotter: Spotter, dataset: ClipDataset, threshold: float) -> list[Clip]:
    """The clips in which there is an event."""
    scored = score_clips(spotter, dataset)
    return [
        clip
        for clip, each in zip(dataset.clips, scored, strict=True)
        if each.events({WORD: threshold})
    ]


def _firing_rate(spotter: Spotter, dataset: ClipDataset, threshold: float) -> float:
    return round(len(_find_firing(spotter, dataset, threshold)) / len(dataset), 4)


def _firing_phrases(spotter: Spotter, dataset: ClipDataset, threshold: float) -> list[dict]:
    counts = Counter(clip.label for clip in _find_firing(spotter, dataset, threshold))
    return [{"phrase": phrase, "clips": counts[phrase]} for phrase in sorted(counts)]


def _pairs(spotter: Spotter, word: WordClips, threshold: float) -> list[dict[str, int]]:
    """How many events there are where a clip is repeated after 1 s, or 0.1 s after its end if it is
    longer. Two are right."""
    pairs = []
    for wave in word.dataset:
        audio = np.zeros(max(PAIR_SAMPLES, len(wave) + PAIR_GAP_SAMPLES) + len(wave), np.float32)
        audio[: len(wave)] += wave
        audio[-len(wave) :] += wave
        pairs.append(audio)
    counts = Counter(len(each.events({WORD: threshold})) for each in score_clips(spotter, pairs))
    return [{"events": events, "pairs": counts[events]} for events in sorted(counts)]


def _detect_recordings(spotter: Spotter, folder: Path) -> list[dict]:
    """True and detected events of the demo recordings, as [start, end] in seconds."""
    truth: dict[str, list[tuple[float, float]]] = {
        path.name: [] for path in sorted(folder.glob("*.wav"))
    }
    with (folder / "events.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            truth[row["file"]].append((float(row["start"]), float(row["end"])))
    return [
        {
            "file": name,
            "truth": truth[name],
            "detected": [(event.start, event.end) for event in spotter.detect(folder / name)],
        }
        for name in truth
    ]


if __name__ == "__main__":
    main()
