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
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.addresses import reject_url
from kws.audio.folders import find_on_disk, normalize_name
from kws.errors import ModelError
from kws.runtime.numpy_network import SIZES, NumpyNetwork
from kws.runtime.postprocess import UNREACHABLE_THRESHOLD, EventSettings
from kws.runtime.tensors import float_tensors, unpack_tensors
from kws.runtime.verifier import Fusion, Pronunciation, Verifier

FORMAT = 6
SUFFIX = ".kws"
METADATA_KEY = "kws"
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

    def make_verifier(self) -> Verifier | None:
        """The verifier, run by NumPy; None for a model without one. Raises ModelError."""
        tensors = self.tensors_of("verifier")
        if not tensors:
            return None
        try:
            return Verifier(
                NumpyNetwork(tensors), _read_pronunciations(tensors), Fusion(*tensors["fusion"])
            )
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"{self.info.path}: its verifier is damaged. Copy or train it again."
            ) from error


def _read_pronunciations(tensors: dict[str, np.ndarray]) -> list[list[Pronunciation]]:
    """Those of each word: `first_pronunciation` says where those of a word begin, `first_phone`
    where the phones of a pronunciation begin."""
    phones = tensors["phone_numbers"].tolist()
    pronunciations = _split(phones, tensors["first_phone"].tolist())
    return _split(pronunciations, tensors["first_pronunciation"].tolist())


def _split(items: list[Any], starts: list[int]) -> list[list[Any]]:
    return [items[begin:end] for begin, end in pairwise(starts)]


def find_model(model: str | Path) -> Path:
    """The file of a model: a path as it is; a name is looked up in ./models, then among the shipped
    models.

    Raises ModelError where there is no such file, KwsError for a URL.
    """
    reject_url(model)
    path = find_on_disk(Path(model))
    if path.suffix == SUFFIX or len(path.parts) > 1:
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
        sizes = dict(zip(SIZES, tensors["network.sizes"].tolist(), strict=True))
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
