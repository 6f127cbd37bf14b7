"""Model files: `NAME.onnx`, a graph from samples and state to scores, with one JSON document in its
metadata.

The document (key `kws`) holds all that is needed to run the model and to judge it: format, words,
timing, event settings, calibration, training sources with their licences, metrics, versions. The
verifier, if the model has one, is a second graph in the metadata. Nothing in the file is executed
but the graphs.
"""

import base64
import json
import os
import zlib
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk, normalize_name
from kws.errors import ModelError
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings
from kws.runtime.session import open_session
from kws.runtime.verifier import Fusion, VerifierConfig

if TYPE_CHECKING:
    import onnxruntime

FORMAT = 6
METADATA_KEY = "kws"
VERIFIER_KEY = "kws_verifier"  # the verifier's graph, in base64
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
    """The description in a model file. `document`: the whole JSON document; `checksum`: CRC-32 of
    the file."""

    path: Path
    document: dict[str, Any]
    checksum: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.document["words"])

    @property
    def frame_samples(self) -> int:
        """Samples from one score to the next. The graph takes multiples of it."""
        return int(self.document["frame_samples"])

    @property
    def frame_seconds(self) -> float:
        return self.frame_samples / float(self.document["sample_rate"])

    @property
    def state_size(self) -> int:
        return int(self.document["state_size"])

    @property
    def context_samples(self) -> int:
        """Samples after which the state holds nothing of what came before them."""
        return int(self.document["context_samples"])

    @property
    def phones(self) -> str:
        """The phones whose probabilities the graph gives beside the scores; empty without them."""
        return str(self.document.get("phones", ""))

    @property
    def events(self) -> EventSettings:
        settings = self.document["events"]
        return EventSettings(**{**settings, "threshold": tuple(settings["threshold"])})

    def thresholds_for(self, false_alarms_per_hour: float) -> tuple[float, ...]:
        """One threshold per word, with at most this many false alarms per hour in the calibration
        of the model. A class that is no word keeps UNREACHABLE_THRESHOLD.

        Raises ModelError where the calibration does not support so low a rate.
        """
        return tuple(
            threshold
            if threshold >= UNREACHABLE_THRESHOLD
            else self._threshold_for(word, false_alarms_per_hour)
            for word, threshold in zip(self.words, self.events.threshold, strict=True)
        )

    def _threshold_for(self, word: str, false_alarms_per_hour: float) -> float:
        calibration = self.document.get("calibration") or {"hours": 0.0, "rows": []}
        rows = [row for row in calibration["rows"] if row["word"] == word]
        allowed = [row for row in rows if row["false_alarms_per_hour"] <= false_alarms_per_hour]
        if allowed:
            return float(max(allowed, key=itemgetter("false_alarms_per_hour"))["threshold"])
        if rows:
            lowest = min(row["false_alarms_per_hour"] for row in rows)
            reason = f"its lowest row is {lowest:g} per hour"
        elif calibration["hours"]:
            reason = "its calibration has no row for this word"
        else:
            reason = "it was never calibrated"
        raise ModelError(
            f"{self.path}: cannot promise {false_alarms_per_hour:g} false alarms per hour for "
            f"'{word}': {reason} ({calibration['hours']:.1f} h of audio). Ask for more, or set "
            "--threshold."
        )


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file: its description, a session of its graph, and its verifier, if it
    has one."""

    info: ModelInfo
    session: "onnxruntime.InferenceSession"
    verifier: VerifierConfig | None


def find_model(model: str | Path) -> Path:
    """The file of a model: a path as it is; a name is looked up in ./models, then among the shipped
    models.

    Raises ModelError where there is no such file, KwsError for a URL.
    """
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
        f"no model named '{model}'. Known: {_list_model_names()}. "
        f"Train one with: kws train {model} --data DIR"
    )


def read_model(path: Path) -> ModelFile:
    """Opens and checks a model file. Raises ModelError for anything but a model of kws."""
    try:
        content = path.read_bytes()
        session = open_session(content)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # see open_session
        raise ModelError(
            f"{path}: not an ONNX model, or a damaged one. Copy or train it again."
        ) from error
    metadata = session.get_modelmeta().custom_metadata_map
    info = ModelInfo(path, _read_document(path, metadata), zlib.crc32(content))
    if not _matches_graph(info, session):
        raise ModelError(
            f"{path}: its graph does not match its description. Copy or train it again."
        )
    return ModelFile(info, session, _read_verifier(info, metadata.get(VERIFIER_KEY)))


def _read_verifier(info: ModelInfo, encoded_graph: str | None) -> VerifierConfig | None:
    description: Any = info.document.get("verifier")  # as it is in the file: of any type
    if encoded_graph is None and description is None:
        return None
    try:
        phones = description["phones"]
        return VerifierConfig(
            graph=base64.b64decode(encoded_graph or "!", validate=True),
            pronunciations=[
                [
                    [phones.index(phone) for phone in pronunciation]
                    for pronunciation in description["pronunciations"].get(word, [])
                ]
                for word in info.words
            ],
            receptive_field_samples=description["receptive_field_samples"],
            fusion=Fusion(**{key: float(value) for key, value in description["fusion"].items()}),
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{info.path}: its verifier is damaged. Copy or train it again."
        ) from error


def _read_document(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path}: an ONNX model of another program; kws needs a file made by 'kws train'."
        )
    try:
        document: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        version = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: its description is damaged. Copy or train it again.") from error
    if version != FORMAT:
        raise ModelError(
            f"{path}: model format {version}, this kws reads format {FORMAT}. "
            "Train it again, or install the version of kws that made it."
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
            f"{path}: its event settings are unknown to this kws. "
            "Train it again, or install a newer version of kws."
        ) from error
    if thresholds != len(document["words"]):
        raise ModelError(
            f"{path}: {thresholds} thresholds for {len(document['words'])} words. "
            "Copy or train it again."
        )
    return document


def _matches_graph(info: ModelInfo, session: "onnxruntime.InferenceSession") -> bool:
    """Whether the inputs and outputs of a graph have the sizes of the description."""
    tensors = [*session.get_inputs(), *session.get_outputs()]
    sizes = {tensor.name: tensor.shape[-1] for tensor in tensors if tensor.shape}
    expected_sizes = {
        "state": info.state_size,
        "new_state": info.state_size,
        "pooled": len(info.words),
        "frames": len(info.words),
        "boundaries": 2,
    }
    if info.phones or "phones" in sizes:
        expected_sizes["phones"] = len(info.phones)
    return "audio" in sizes and all(
        sizes.get(name) == size for name, size in expected_sizes.items()
    )


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long


def model_folders() -> list[Path]:
    """Where models are looked up by name: the user's, the installed ones, those of a clone."""
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
