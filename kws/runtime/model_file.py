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

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk, normalize_name
from kws.errors import ModelError
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings
from kws.runtime.verifier import Fusion, Verifier

if TYPE_CHECKING:
    import onnxruntime

FORMAT = 5
METADATA_KEY = "kws"
VERIFIER_KEY = "kws_verifier"  # of the graph of its reader, in base64, if it has one
_REQUIRED_KEYS = (
    "words",
    "sample_rate",
    "frame_samples",
    "context_samples",
    "state_size",
    "events",
)


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
    def context_samples(self) -> int:
        """Samples after which nothing of the past is left in the state."""
        return self.document["context_samples"]

    @property
    def phones(self) -> str:
        """What it writes down, frame by frame, beside its scores; nothing, if it does not."""
        return self.document.get("phones", "")

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
            UNREACHABLE_THRESHOLD
            if threshold >= UNREACHABLE_THRESHOLD
            else self._threshold_for(word, false_alarms_per_hour)
            for word, threshold in own
        )

    def _threshold_for(self, word: str, max_false_alarms_per_hour: float) -> float:
        calibration = self.document.get("calibration") or {"hours": 0.0, "rows": []}
        rows = [row for row in calibration["rows"] if row["word"] == word]
        rows_within_target = [
            row for row in rows if row["false_alarms_per_hour"] <= max_false_alarms_per_hour
        ]
        if not rows_within_target:
            lowest_rate = min((row["false_alarms_per_hour"] for row in rows), default=None)
            no_rows_reason = (
                "its calibration could promise nothing"
                if calibration["hours"]
                else "it was never calibrated"
            )
            limit_text = (
                no_rows_reason
                if lowest_rate is None
                else f"its lowest row is {lowest_rate:g} per hour"
            )
            raise ModelError(
                f"{self.path}: cannot promise {max_false_alarms_per_hour:g} false alarms per hour "
                f"for '{word}': {limit_text} "
                f"({calibration['hours']:.1f} h heard). Ask for more, or set --threshold."
            )
        return max(rows_within_target, key=lambda row: row["false_alarms_per_hour"])["threshold"]


def find_model(model: str | Path) -> Path:
    """Path of a model: a path as it is; a name is looked up in ./models, then among the shipped
    models. Raises ModelError, KwsError for an address."""
    reject_url(model)
    path = find_on_disk(Path(model))
    if path.suffix == ".onnx" or len(path.parts) > 1:
        if not _is_file(path):
            raise ModelError(
                f"{path}: no such model file. "
                f"Give the path of an .onnx file made by kws, or a name: {_list_model_names()}."
            )
        return path
    for candidate in (find_on_disk(folder / f"{model}.onnx") for folder in model_folders()):
        if _is_file(candidate):
            return candidate
    raise ModelError(
        f"no model named '{model}'. Known: {_list_model_names()}. Train one with: kws train {model} --data DIR"
    )


def open_session(path: Path) -> "tuple[onnxruntime.InferenceSession, ModelInfo]":
    """The graph, ready to run on one thread, and its checked document. Raises ModelError for
    anything but a model of ours."""
    try:
        content = path.read_bytes()
        session = _make_session(content)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # the runtime has no common base for what it raises on a bad file
        raise ModelError(
            f"{path}: not an ONNX model, or a damaged one. Copy or train it again."
        ) from error
    document = _read_document(path, session.get_modelmeta().custom_metadata_map)
    info = ModelInfo(path, document, zlib.crc32(content))
    if not _matches_graph(info, session):
        raise ModelError(
            f"{path}: its graph is not the one that its description tells of. "
            "Copy or train it again."
        )
    return session, info


def open_verifier(session: "onnxruntime.InferenceSession", info: ModelInfo) -> Verifier | None:
    """The reader in a model file that was opened. Raises ModelError for one that is damaged."""
    graph = session.get_modelmeta().custom_metadata_map.get(VERIFIER_KEY)
    known: Any = info.document.get("verifier")  # whatever a file holds
    if graph is None and known is None:
        return None
    try:
        phones = known["phones"]
        pronunciations = [
            [
                [phones.index(letter) for letter in pronunciation]
                for pronunciation in known["pronunciations"].get(word, [])
            ]
            for word in info.words
        ]
        graph_bytes = base64.b64decode(graph, validate=True)
        fusion = Fusion(**{name: float(number) for name, number in known["fusion"].items()})
        return Verifier(
            lambda: _make_session(graph_bytes),
            pronunciations,
            known["receptive_field_samples"],
            info.frame_samples,
            fusion,
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ModelError(f"{info.path}: its reader is damaged. Copy or train it again.") from error


def _make_session(graph: bytes) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # it keeps memory for each new length of audio
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _read_document(path: Path, metadata: dict[str, str]) -> dict:
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path}: an ONNX model of another program; kws needs a file made by 'kws train'."
        )
    try:
        document = json.loads(metadata[METADATA_KEY])
        version = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: its description is damaged. Copy or train it again.") from error
    if version != FORMAT:
        raise ModelError(
            f"{path}: model format {version}, this kws reads format {FORMAT}. "
            "Train it again, or install the kws that made it."
        )
    missing = [key for key in _REQUIRED_KEYS if key not in document]
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


def _matches_graph(info: ModelInfo, session: "onnxruntime.InferenceSession") -> bool:
    shapes = {each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())}
    last_dims = {name: shape[-1] for name, shape in shapes.items() if shape}
    expected_dims = {
        "state": info.state_size,
        "new_state": info.state_size,
        "pooled": len(info.words),
        "frames": len(info.words),
        "boundaries": 2,
    }
    expected_dims |= {"phones": len(info.phones)} if info.phones or "phones" in last_dims else {}
    return "audio" in last_dims and all(
        last_dims.get(name) == size for name, size in expected_dims.items()
    )


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long


def model_folders() -> list[Path]:
    """Where models are looked for by name: yours, installed, in a clone."""
    package = Path(__file__).parents[1]
    return [Path("models"), package / "models", package.parent / "models"]


def _list_model_names() -> str:
    names = {
        path.stem
        for folder in model_folders()
        for path in folder.glob("*.onnx")
        if "." not in path.stem
    }
    return ", ".join(sorted(map(normalize_name, names))) or "none"
