"""Model files: `NAME.onnx`, a graph that takes samples and state, with one JSON document in
its metadata.

The document (key `kws`) says all there is to know: format, words, timing, pooling, event settings,
calibration, training sources with their licences, metrics, versions. Nothing else is needed to run
the model, and nothing in the file is executed but the graph.
"""

import base64
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws.audio.addresses import check_file
from kws.audio.folders import normalized, on_disk
from kws.errors import ModelError
from kws.runtime.postprocess import NEVER, EventSettings
from kws.runtime.verifier import Reader, Weighing

if TYPE_CHECKING:
    import onnxruntime

# A file with a reader is none for a kws that would not ask it, or not weigh what it says in the
# same way.
FORMAT, WITH_READER = 1, 4
# 3: with a reader that does not tell how it is to be weighed.
KNOWN_FORMATS = (FORMAT, 3, WITH_READER)
METADATA_KEY = "kws"
READER_KEY = "kws_reader"  # of the graph of its reader, in base64, if it has one
_NEEDED = ("words", "sample_rate", "frame_samples", "past_samples", "state_size", "events")


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself; `document` is the whole of it. `checksum`: of the file."""

    path: Path
    document: dict
    checksum: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.document["words"])

    @property
    def frame_samples(self) -> int:
        """Samples from one score to the next; the graph takes multiples of it."""
        return self.document["frame_samples"]

    @property
    def frame_seconds(self) -> float:
        return self.frame_samples / self.document["sample_rate"]

    @property
    def state_size(self) -> int:
        return self.document["state_size"]

    @property
    def past_samples(self) -> int:
        """Samples after which nothing of the past is left in the state."""
        return self.document["past_samples"]

    @property
    def letters(self) -> str:
        """What it writes down, frame by frame, beside its scores; nothing, if it does not."""
        return self.document.get("letters", "")

    @property
    def events(self) -> EventSettings:
        settings = self.document["events"]
        return EventSettings(**{**settings, "threshold": tuple(settings["threshold"])})

    def thresholds_for(self, false_alarms_per_hour: float) -> tuple[float, ...]:
        """One threshold per word that gave at most this many false alarms per hour when the model
        was calibrated; what never fires (unknown words, silence) has none.

        Raises ModelError where the calibration heard too little to promise so few.
        """
        own = zip(self.words, self.events.threshold, strict=True)
        return tuple(
            NEVER if threshold >= NEVER else self._threshold_for(word, false_alarms_per_hour)
            for word, threshold in own
        )

    def _threshold_for(self, word: str, wanted: float) -> float:
        calibration = self.document.get("calibration") or {"hours": 0.0, "rows": []}
        rows = [row for row in calibration["rows"] if row["word"] == word]
        fitting = [row for row in rows if row["false_alarms_per_hour"] <= wanted]
        if not fitting:
            least = min((row["false_alarms_per_hour"] for row in rows), default=None)
            never = (
                "its calibration could promise nothing"
                if calibration["hours"]
                else "it was never calibrated"
            )
            reach = never if least is None else f"its lowest row is {least:g} per hour"
            raise ModelError(
                f"{self.path}: cannot promise {wanted:g} false alarms per hour "
                f"for '{word}': {reach} "
                f"({calibration['hours']:.1f} h heard). Ask for more, or set --threshold."
            )
        return max(fitting, key=lambda row: row["false_alarms_per_hour"])["threshold"]


def find(model: str | Path) -> Path:
    """Path of a model: a path as it is; a name is looked up in ./models, then among the shipped
    models. Raises ModelError, KwsError for an address."""
    check_file(model)
    path = on_disk(Path(model))
    if path.suffix == ".onnx" or len(path.parts) > 1:
        if not _is_file(path):
            raise ModelError(
                f"{path}: no such model file. "
                f"Give the path of an .onnx file made by kws, or a name: {_known()}."
            )
        return path
    for found in (on_disk(folder / f"{model}.onnx") for folder in folders()):
        if _is_file(found):
            return found
    raise ModelError(
        f"no model named '{model}'. Known: {_known()}. Train one with: kws train {model} --data DIR"
    )


def open_session(path: Path) -> "tuple[onnxruntime.InferenceSession, ModelInfo]":
    """The graph, ready to run on one thread, and its checked document. Raises ModelError for
    anything but a model of ours."""
    try:
        content = path.read_bytes()
        session = _session(content)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # the runtime has no common base for what it raises on a bad file
        raise ModelError(
            f"{path}: not an ONNX model, or a damaged one. Copy or train it again."
        ) from error
    document = _check(path, session.get_modelmeta().custom_metadata_map)
    info = ModelInfo(path, document, zlib.crc32(content))
    if not _describes(info, session):
        raise ModelError(
            f"{path}: its graph is not the one that its description tells of. "
            "Copy or train it again."
        )
    return session, info


def open_reader(session: "onnxruntime.InferenceSession", info: ModelInfo) -> Reader | None:
    """The reader in a model file that was opened. Raises ModelError for one that is damaged."""
    graph = session.get_modelmeta().custom_metadata_map.get(READER_KEY)
    known: Any = info.document.get("reader")  # whatever a file holds
    if graph is None and known is None:
        return None
    try:
        letters = known["letters"]
        sounds = [
            [[letters.index(letter) for letter in said] for said in known["sounds"].get(word, [])]
            for word in info.words
        ]
        decoded = base64.b64decode(graph, validate=True)
        told = known["weighing"] if info.document["format"] == WITH_READER else {}
        weighing = Weighing(**{name: float(number) for name, number in told.items()})
        return Reader(
            lambda: _session(decoded), sounds, known["field_samples"], info.frame_samples, weighing
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ModelError(f"{info.path}: its reader is damaged. Copy or train it again.") from error


def _session(graph: bytes) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # it keeps memory for each new length of audio
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _check(path: Path, metadata: dict[str, str]) -> dict:
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path}: an ONNX model of another program; kws needs a file made by 'kws train'."
        )
    try:
        document = json.loads(metadata[METADATA_KEY])
        version = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: its description is damaged. Copy or train it again.") from error
    if version not in KNOWN_FORMATS:
        known = f"this kws reads formats {', '.join(map(str, KNOWN_FORMATS))}"
        raise ModelError(
            f"{path}: model format {version}, {known}. "
            "Train it again, or install the kws that made it."
        )
    missing = [key for key in _NEEDED if key not in document]
    if missing:
        raise ModelError(
            f"{path}: its description lacks {', '.join(missing)}. Copy or train it again."
        )
    try:
        thresholds = len(ModelInfo(path, document).events.threshold)
    except (TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: its event settings are not those that this kws knows. "
            "Train it again, or install newer kws."
        ) from error
    if thresholds != len(document["words"]):
        raise ModelError(
            f"{path}: {thresholds} thresholds for {len(document['words'])} words. "
            "Copy or train it again."
        )
    return document


def _describes(info: ModelInfo, session: "onnxruntime.InferenceSession") -> bool:
    shapes = {each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())}
    last = {name: shape[-1] for name, shape in shapes.items() if shape}
    sizes = {
        "state": info.state_size,
        "new_state": info.state_size,
        "pooled": len(info.words),
        "frames": len(info.words),
        "extents": 2,
    }
    sizes |= {"letters": len(info.letters)} if info.letters or "letters" in last else {}
    return "audio" in last and all(last.get(name) == size for name, size in sizes.items())


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long


def folders() -> list[Path]:
    """Where models are looked for by name: yours, installed, in a clone."""
    package = Path(__file__).parents[1]
    return [Path("models"), package / "models", package.parent / "models"]


def _known() -> str:
    names = {
        path.stem for folder in folders() for path in folder.glob("*.onnx") if "." not in path.stem
    }
    return ", ".join(sorted(map(normalized, names))) or "none"
