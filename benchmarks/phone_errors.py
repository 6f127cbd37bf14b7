"""How many phones a phone recogniser gets wrong, by people whom it never heard.

    python benchmarks/phone_errors.py --data DATA models/phone_recognizer.pt [MORE.pt ...]
        [--out errors.json]

DATA/sentences is a corpus with transcripts (`kws.training.data.transcripts`). Its validation and
test speakers are counted, by corpus and by accent; sentences in other languages are not. A rate is
the edit distance from the recognised to the spoken phones, per spoken phone: the most probable
phone of each frame, without noise, against the dictionary's pronunciation of the transcript.
"Late" is how long after the end of the sound the last phone is recognised, median, in seconds.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.accents import group_accent
from benchmarks.report import add_out_option, write_report
from kws.audio import recordings
from kws.audio.endpoints import find_endpoints
from kws.audio.recordings import SAMPLE_RATE
from kws.synth.pronunciation import phonemize
from kws.training.data.transcripts import Utterance, read_corpus
from kws.training.model.network import ScanningCNN
from kws.training.model.phone_set import to_phones
from kws.training.model.torch_engine import load_network
from kws.training.phones.objective import edit_distance, recognize_recording


@dataclass(frozen=True)
class Recognition:
    """How one recording was recognised. late_seconds: of the last phone; NaN without phones."""

    corpus: str
    accent: str
    speaker: str
    phones: int
    edits: int
    late_seconds: float


@dataclass(frozen=True)
class Row:
    """The speakers of a group, and how they were recognised."""

    model: str
    group: str
    speakers: int
    phones: int
    error_rate: float
    late_seconds: float

    @classmethod
    def summarize(cls, model: str, group: str, recognitions: list[Recognition]) -> "Row":
        phones = sum(each.phones for each in recognitions)
        return cls(
            model,
            group,
            len({each.speaker for each in recognitions}),
            phones,
            round(sum(each.edits for each in recognitions) / max(phones, 1), 4),
            round(float(np.nanmedian([each.late_seconds for each in recognitions])), 3),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("models", type=Path, nargs="+", help="phone recognisers (.pt)")
    add_out_option(parser)
    args = parser.parse_args()
    corpus = args.data / "sentences"
    utterances = [
        each
        for each in read_corpus(corpus, warn=print)
        if each.is_english and each.split != "train"
    ]
    print(f"{'model':24} {'speakers':32} {'number':>6} {'phones':>7} {'wrong':>7} {'late':>7}")
    rows = []
    for path in args.models:
        network = load_network(path)
        recognitions = [recognize(network, each, corpus) for each in utterances]
        rows += [Row.summarize(path.stem, *group) for group in make_groups(recognitions).items()]
    for row in rows:
        print(
            f"{row.model:24} {row.group:32} {row.speakers:6} {row.phones:7} "
            f"{row.error_rate:7.1%} {row.late_seconds:5.2f} s"
        )
    write_report({"rows": [asdict(row) for row in rows]}, args.out)


def recognize(network: ScanningCNN, utterance: Utterance, corpus: Path) -> Recognition:
    wave = recordings.read(utterance.path)
    spoken = to_phones(phonemize(utterance.text))
    recognized = recognize_recording(network, wave)
    frame_seconds = network.config.frame_samples / SAMPLE_RATE
    last_frame = recognized.frames[-1] if len(recognized.frames) else np.nan
    return Recognition(
        utterance.path.relative_to(corpus).parts[0],
        group_accent(utterance.accent),
        utterance.speaker,
        len(spoken),
        edit_distance(recognized.phones, spoken),
        (last_frame + 1) * frame_seconds - find_endpoints(wave)[1],
    )


def make_groups(recognitions: Iterable[Recognition]) -> dict[str, list[Recognition]]:
    """All, and those of each corpus and accent."""
    groups = defaultdict(list)
    for each in recognitions:
        for name in ("all", f"corpus {each.corpus}", f"accent {each.accent}"):
            groups[name].append(each)
    return dict(sorted(groups.items()))


if __name__ == "__main__":
    main()
