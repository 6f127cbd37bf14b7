"""Model files: `NAME.kws`, the weights of the networks and one JSON document.

The container is safetensors (`kws.runtime.tensors`). The document (key `kws` of its metadata) holds
all that is needed to run the model and to judge it: format, words, timing, event settings,
calibration, training sources with their licences, metrics, versions. The names of the tensors begin
with `network.`, and with `verifier.` if the model has one. Nothing in the file is executed.
"""

import json
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.addresses import reject_url
from kws.audio.durations import format_duration
from kws.audio.folders import find_on_disk, normalize_name
from kws.audio.formats import SAMPLE_RATE
from kws.errors import ModelError
from kws.runtime.numpy_network import NumpyNetwork, read_sizes
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings
from kws.runtime.tensors import float_tensors, unpack_tensors
from kws.runtime.verifier import Fusion, Verifier

FORMAT = 6
SUFFIX = ".kws"
ONNX_SUFFIX = ".onnx"  # of models before format 6
METADATA_KEY = "kws"
_MOST_SAMPLES = 60 * SAMPLE_RATE  # that one number of a document counts, or frames
_REQUIRED_KEYS = ("words", "sample_rate", "frame_samples", "context_samples", "events")


@dataclass(frozen=True)
class ModelInfo:
    """The description in a model file. `document`: the whole JSON document; `checksum`: that of the
    file."""

    path: Path
    document: dict[str, Any]
    checksum: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.document["words"])

    @property
    def frame_samples(self) -> int:
        """Samples from one score to the next."""
        return int(self.document["frame_samples"])

    @property
    def frame_seconds(self) -> float:
        return self.frame_samples / float(self.document["sample_rate"])

    @property
    def context_samples(self) -> int:
        """Samples after which the state holds nothing of what came before them."""
        return int(self.document["context_samples"])

    @property
    def phones(self) -> str:
        """The phones whose probabilities the network gives beside the scores; empty without
        them."""
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
        hours, rows = self._read_calibration(word)
        allowed = {rate: rows[rate] for rate in rows if rate <= false_alarms_per_hour}
        if allowed:
            return allowed[max(allowed)]
        if rows:
            reason = f"{format_duration(hours)} of calibration show no fewer than {min(rows):g}"
        elif hours:
            reason = f"{format_duration(hours)} of calibration show nothing of this word"
        else:
            reason = "it was never calibrated"
        raise ModelError(
            f"{self.path}: cannot promise {false_alarms_per_hour:g} false alarms per hour for "
            f"'{word}': {reason}. Ask for more, or set --threshold."
        )

    def _read_calibration(self, word: str) -> tuple[float, dict[float, float]]:
        """Hours of audio, and for each rate of false alarms per hour the threshold of a word."""
        calibration = self.document.get("calibration") or {"hours": 0.0, "rows": []}
        try:
            rows = [row for row in calibration["rows"] if row["word"] == word]
            thresholds = {
                float(row["false_alarms_per_hour"]): float(row["threshold"]) for row in rows
            }
            return float(calibration["hours"]), thresholds
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"{self.path}: its calibration is damaged. Copy or train it again."
            ) from error


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file. tensors: weights as float32, whatever they are stored as, and
    integers. data: all bytes of the file."""

    info: ModelInfo
    tensors: dict[str, np.ndarray]
    data: bytes

    def tensors_of(self, part: str) -> dict[str, np.ndarray]:
        """The tensors of "network" or "verifier", without this name before theirs."""
        prefix = f"{part}."
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def make_network(self) -> NumpyNetwork:
        """The scanning network, run by NumPy. Raises ModelError."""
        try:
            return NumpyNetwork(self.tensors_of("network"))
        except (LookupError, ValueError) as error:
            raise ModelError(
                f"{self.info.path}: its network is damaged. Copy or train it again."
            ) from error

    def make_verifier(self) -> Verifier | None:
        """The verifier, run by NumPy; None for a model without one. Raises ModelError."""
        tensors = self.tensors_of("verifier")
        if not tensors:
            return None
        try:
            return _read_verifier(tensors, self.info)
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"{self.info.path}: its verifier is damaged. Copy or train it again."
            ) from error


def _read_verifier(tensors: dict[str, np.ndarray], info: ModelInfo) -> Verifier:
    """Raises LookupError, TypeError or ValueError for tensors of no verifier."""
    recognizer, fusion = NumpyNetwork(tensors), Fusion(*tensors["fusion"].tolist())
    # `first_pronunciation` says where those of a word begin, `first_phone` where the phones of a
    # pronunciation begin.
    phones = _integers(tensors["phone_numbers"])
    pronunciations = _split(phones, _integers(tensors["first_phone"]))
    by_word = _split(pronunciations, _integers(tensors["first_pronunciation"]))
    is_sound = (
        recognizer.frame_samples == info.frame_samples
        and len(by_word) == len(info.words)
        and all(pronunciations)
        and all(phone in range(recognizer.sizes["phones"]) for phone in phones)
        and tensors["fusion"].dtype == np.float32
        and np.isfinite(tensors["fusion"]).all()
        and fusion.scale >= 0
        and fusion.floor <= fusion.ceiling
    )
    if not is_sound:
        raise ValueError("parts of the verifier do not fit")
    return Verifier(recognizer, by_word, fusion)


def _integers(tensor: np.ndarray) -> list[int]:
    if tensor.dtype != np.int32 or tensor.ndim != 1:
        raise ValueError("not a row of integers")
    integers: list[int] = tensor.tolist()
    return integers


def _split(items: list[Any], starts: list[int]) -> list[list[Any]]:
    """The items from each start to the next. Raises ValueError for starts that are not in order, or
    leave items out."""
    if starts != sorted(starts) or (starts[0], starts[-1]) != (0, len(items)):
        raise ValueError("starts do not fit")
    return [items[begin:end] for begin, end in pairwise(starts)]


def find_model(model: str | Path) -> Path:
    """The file of a model: a path as it is; a name is looked up in ./models, then among the shipped
    models.

    Raises ModelError where there is no such file, KwsError for a URL.
    """
    reject_url(model)
    path = find_on_disk(Path(model))
    if path.suffix in (SUFFIX, ONNX_SUFFIX) or Path(model).name != str(model):
        if not _is_file(path):
            raise ModelError(
                f"{path}: no such model file. "
                f"Give the path of a {SUFFIX} file, or a name: {_list_model_names()}."
            )
        return path
    for candidate in (find_on_disk(folder / f"{model}{SUFFIX}") for folder in model_folders()):
        if _is_file(candidate):
            return candidate
    raise ModelError(
        f"no model named '{model}'. Known: {_list_model_names()}. "
        f"Train one with: kws train {model} --data DIR"
    )


def read_model(path: Path) -> ModelFile:
    """Reads and checks a model file. Raises ModelError for anything but a model of kws."""
    if path.suffix == ONNX_SUFFIX:
        raise ModelError(
            f"{path}: an ONNX file; this kws reads {SUFFIX} files. "
            "Train it again, or install the version of kws that made it."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    return parse_model(data, path)


def parse_model(data: bytes, path: Path) -> ModelFile:
    """The same for the bytes of a file; `path` is named in errors."""
    metadata, stored_tensors, checksum = unpack_tensors(data, path)
    info = ModelInfo(path, _read_document(path, metadata), checksum)
    try:
        tensors = float_tensors(stored_tensors)
        sizes = read_sizes(tensors["network.sizes"])
        if any(name.startswith("verifier.") for name in tensors):
            read_sizes(tensors["verifier.sizes"])  # without them the kernel has no verifier
    except (LookupError, ValueError) as error:
        raise ModelError(f"{path}: its network is damaged. Copy or train it again.") from error
    actual = (sizes["words"], sizes["hop_samples"] * sizes["stride"], sizes["phones"])
    if actual != (len(info.words), info.frame_samples, len(info.phones)):
        raise ModelError(
            f"{path}: its network does not match its description. Copy or train it again."
        )
    return ModelFile(info, tensors, data)


def _read_document(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path}: a file of another program; kws needs a model made by 'kws train'."
        )
    try:
        document: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        version = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: its description is damaged. Copy or train it again.") from error
    if version != FORMAT:
        raise ModelError(
            f"{path}: model format {version!r:.20}, this kws reads format {FORMAT}. "
            "Train it again, or install the version of kws that made it."
        )
    missing = [key for key in _REQUIRED_KEYS if key not in document]
    if missing:
        raise ModelError(
            f"{path}: its description lacks {', '.join(missing)}. Copy or train it again."
        )
    info = ModelInfo(path, document)
    try:
        events = info.events
    except (TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: its event settings are unknown to this kws. "
            "Train it again, or install a newer version of kws."
        ) from error
    if not (_is_sound(document) and _are_sound(events)):
        raise ModelError(f"{path}: its description is damaged. Copy or train it again.")
    if len(events.threshold) != len(info.words):
        raise ModelError(
            f"{path}: {len(events.threshold)} thresholds for {len(info.words)} words. "
            "Copy or train it again."
        )
    return document


def _is_sound(document: dict[str, Any]) -> bool:
    """Whether a document has values of the types and ranges that streams rely on."""
    words = document["words"]
    return (
        isinstance(words, list)
        and len(words) > 0
        and all(isinstance(word, str) for word in words)
        and isinstance(document.get("phones", ""), str)
        and document["sample_rate"] == SAMPLE_RATE
        and _is_count(document["frame_samples"], least=1)
        and _is_count(document["context_samples"], least=1)
    )


def _are_sound(events: EventSettings) -> bool:
    numbers = (*events.threshold, events.release_ratio)
    return (
        all(isinstance(number, (int, float)) and 0 <= number < np.inf for number in numbers)
        and 0 < events.release_ratio <= 1
        and _is_count(events.confirm_frames, least=1)
        and _is_count(events.refractory_frames, least=0)
    )


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and least <= value <= _MOST_SAMPLES


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
        for path in folder.glob(f"*{SUFFIX}")
        if "." not in path.stem
    }
    return ", ".join(sorted(map(normalize_name, names))) or "none"
