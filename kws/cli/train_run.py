"""The work of `kws train`: load the data, train, calibrate, and report."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kws.audio.durations import format_duration
from kws.cli import evaluate_run
from kws.cli.training_reporter import (
    Stage,
    TrainingReporter,
    check_model_path,
    report_training,
)
from kws.errors import DataError, SynthError
from kws.runtime.spotter import Spotter
from kws.synth.confusables import pronunciations
from kws.training import distributed
from kws.training.data.clips import exclude_words
from kws.training.data.keyword_data import (
    CorpusClips,
    DataFolders,
    KeywordData,
    check,
    load_keyword_data,
)
from kws.training.detection.corpus import read_corpus_clips
from kws.training.detection.from_text import SynthConfig, synthesize_folders
from kws.training.detection.said_words import SaidWordFilter, said_words_path
from kws.training.detection.train import train
from kws.training.detection.two_stage import first_stage_path, second_stage_config, train_two_stage
from kws.training.evaluate.hours import (
    describe_hours,
    explain_too_few_hours,
    is_rate_measurable,
)
from kws.training.evaluate.metrics import TARGET_RATES
from kws.training.evaluate.test_streams import CLEAN
from kws.training.fit.config import TrainConfig
from kws.training.model import pretrained
from kws.training.model.network import NetworkConfig, ScanningCNN
from kws.training.model.pretrained import VerifierSpec, init_from_pretrained
from kws.training.model.torch_engine import load_network, pick_device
from kws.training.phones.word_search import WordSearch, open_phone_engine

logger = logging.getLogger("kws")


@dataclass(frozen=True)
class TrainOptions:
    """The options of `kws train`. speech: with --from-text; its clips go to `folders.data`.
    init_from: checkpoint whose encoder the training starts from. verifier: auto, on or off.
    false_alarms_per_hour: at the default threshold."""

    folders: DataFolders
    speech: SynthConfig | None
    init_from: Path | None
    out: Path
    network_config: NetworkConfig
    train_config: TrainConfig
    verifier: str
    false_alarms_per_hour: float
    device: str
    resume: bool
    as_json: bool

    @property
    def words(self) -> tuple[str, ...]:
        return self.network_config.words


@dataclass(frozen=True)
class Preparation:
    """What is known before the data is loaded: folders, the initial network with what a model file
    says about it, and the verifiers to choose from."""

    folders: DataFolders
    init_from: ScanningCNN | None
    model_card: dict[str, Any]
    verifier_candidates: Sequence[VerifierSpec | None]


def run(options: TrainOptions) -> None:
    """Trains a detector and writes its model file, in one process or in all that torchrun started.

    Raises KwsError.
    """
    check_model_path(options.out)
    device = pick_device(options.device)
    with distributed.init_distributed(device):
        preparation = prepare(options)
        stages = _list_stages(options, preparation.folders)
        with report_training(stages, as_json=options.as_json, resume=options.resume) as reporter:
            # Before minutes of synthesis end at a corpus that cannot be used.
            corpora = _read_corpora(options, reporter)
            if options.speech:
                preparation = _synthesize(options, options.speech, preparation)
            data = _load_data(options, preparation.folders, corpora, reporter)
            said_words = _open_said_word_filter(options, preparation)
            if said_words:
                data = said_words.clean(data, reporter.reading)
            logger.info(f"{_describe_amount(data)}, on {_describe_device(device)}")
            document = _train(options, preparation, data, said_words, device, reporter)
            if document:
                _report(options, document, data, preparation.folders)


def prepare(options: TrainOptions) -> Preparation:
    """Checks the options, and loads what the training starts from. Raises KwsError."""
    _check_processes(options)
    check(options.words, options.folders)  # before minutes of synthesis end at a wrong path
    if options.folders.corpora:
        _pronounce(options)
    folders, init_from, model_card = options.folders, None, {}
    if options.speech:
        folders = _default_hard_negatives(options)
    if options.init_from:
        seed = options.train_config.seed
        init_from = init_from_pretrained(options.network_config, options.init_from, seed)
        model_card = pretrained.model_card(options.init_from)
    candidates = (None,) if options.speech else _find_verifiers(options)
    return Preparation(folders, init_from, model_card, candidates)


def _check_processes(options: TrainOptions) -> None:
    """Raises KwsError for options that do not go together with the number of processes."""
    distributed.local_micro_batches(options.train_config.accumulate)
    if distributed.world_size() == 1:
        return
    for name, value in (
        ("--hard-negatives-from", options.folders.hard_negatives),
        ("--from-text", options.speech),
    ):
        if value:
            raise DataError(
                f"{name} works in one process only. Train without torchrun, or without {name}."
            )


def _default_hard_negatives(options: TrainOptions) -> DataFolders:
    """Mines the negatives, unless other recordings are given for that or all of them are held
    out; and the corpora."""
    folders = options.folders
    if folders.hard_negatives:
        return folders
    folders = replace(folders, mine_corpora=bool(folders.corpora))
    clips, _ = exclude_words(folders.negatives, options.words)
    if any(clip.split == "train" for clip in clips):
        return replace(folders, hard_negatives=folders.negatives)
    return folders


def _find_verifiers(options: TrainOptions) -> Sequence[VerifierSpec | None]:
    """The verifiers to choose from for words that people recorded.

    Raises SynthError where the pronunciation of a word is unknown, DataError where the phone
    recognizer is missing.
    """
    if options.verifier == "off":
        return (None,)
    phones = _pronounce(options)
    _find_recognizer("train with --verifier off")
    if options.verifier == "auto":
        return pretrained.verifier_candidates(phones)
    return (pretrained.load_verifier(phones),)


def _synthesize(
    options: TrainOptions, speech: SynthConfig, preparation: Preparation
) -> Preparation:
    """Synthesizes the clips that are missing, and loads the verifier of the phrase.

    Only recordings of people could show whether a verifier helps; without them it is kept.
    """
    folders = synthesize_folders(speech, preparation.folders)
    if options.verifier == "off":
        return replace(preparation, folders=folders)
    try:
        verifier = pretrained.load_verifier(_pronounce(options))
    except SynthError as error:
        if options.verifier == "on":
            raise
        logger.warning(f"no verifier, which would avoid false alarms: {error}")
        verifier = None
    return replace(preparation, folders=folders, verifier_candidates=(verifier,))


def _load_data(
    options: TrainOptions,
    folders: DataFolders,
    corpora: Sequence[CorpusClips],
    reporter: TrainingReporter,
) -> KeywordData:
    return load_keyword_data(
        options.words,
        folders,
        max_word_seconds=options.train_config.max_word_seconds,
        warn=logger.warning,
        progress=reporter.reading,
        corpora=corpora,
    )


def _read_corpora(options: TrainOptions, reporter: TrainingReporter) -> list[CorpusClips]:
    """What the corpora hold. Raises SynthError where the pronunciation of a word is unknown,
    DataError where the phone recognizer is missing, or a corpus cannot be used."""
    if not options.folders.corpora:
        return []
    phones = _pronounce(options)
    aligner = load_network(_find_recognizer("train without --corpus"))
    return [
        read_corpus_clips(
            folder,
            phones,
            aligner,
            max_word_seconds=options.train_config.max_word_seconds,
            progress=reporter.reading,
        )
        for folder in options.folders.corpora
    ]


def _pronounce(options: TrainOptions) -> dict[str, tuple[str, ...]]:
    """The pronunciations of each word. Raises SynthError where they are unknown."""
    if options.speech:
        return {options.speech.name: options.speech.pronunciations}
    return {word: pronunciations(word.replace("_", " ")) for word in options.words}


def _find_recognizer(alternative: str) -> Path:
    """The checkpoint of the phone recognizer. Raises DataError where it is missing."""
    path = pretrained.shipped_checkpoint(pretrained.PHONE_RECOGNIZER_FILE)
    if path is None:
        raise DataError(
            f"models/{pretrained.PHONE_RECOGNIZER_FILE}, which comes with kws, is missing. "
            f"Install kws again, or {alternative}."
        )
    return path


def _open_said_word_filter(
    options: TrainOptions, preparation: Preparation
) -> SaidWordFilter | None:
    """What leaves out negatives in which a word is said; None, with a remark, where the
    pronunciations of the words are unknown."""
    verifier = next(filter(None, preparation.verifier_candidates), None)
    recognizer = pretrained.shipped_checkpoint(pretrained.PHONE_RECOGNIZER_FILE)
    if verifier is None or recognizer is None:
        logger.info("without a verifier, the negatives are not looked through for the word")
        return None
    search = WordSearch(open_phone_engine(recognizer), verifier.pronunciations)
    synthesized = options.folders.data if options.speech else None
    return SaidWordFilter(search, said_words_path(options.out), synthesized)


def _list_stages(options: TrainOptions, folders: DataFolders) -> list[Stage]:
    last_checkpoint = options.out.with_suffix(".pt")
    if not folders.has_mining:
        return [Stage(options.train_config, last_checkpoint)]
    first_checkpoint = first_stage_path(options.out).with_suffix(".pt")
    return [
        Stage(options.train_config, first_checkpoint),
        Stage(second_stage_config(options.train_config), last_checkpoint),
    ]


def _train(
    options: TrainOptions,
    preparation: Preparation,
    data: KeywordData,
    said_words: SaidWordFilter | None,
    device: torch.device,
    reporter: TrainingReporter,
) -> dict | None:
    """The document of the model file; None in all processes but the first."""
    train_model = (
        partial(train_two_stage, said_words=said_words) if preparation.folders.has_mining else train
    )
    return train_model(
        data,
        options.network_config,
        options.train_config,
        options.out,
        device=device,
        resume=options.resume,
        init_from=preparation.init_from,
        progress=reporter,
        model_card=preparation.model_card,
        verifier_candidates=preparation.verifier_candidates,
        false_alarms_per_hour=options.false_alarms_per_hour,
    )


def _report(options: TrainOptions, document: dict, data: KeywordData, folders: DataFolders) -> None:
    for line in _summarize(document, options.out):
        logger.info(line)
    if options.speech:
        page = options.out.with_suffix(".html")
        _write_page(page, options.out, data, folders)
        logger.info(
            f"{page}: misses and false alarms on held-out data. The threshold was chosen on the "
            "same recordings without the word."
        )


def _write_page(page: Path, model: Path, data: KeywordData, folders: DataFolders) -> None:
    """Evaluates the model on held-out data."""
    options = evaluate_run.EvaluateOptions(
        positives=folders.data,
        negatives=folders.negatives,
        background=(),
        snrs_db=(CLEAN, 10.0),
        stream_seconds=10.0,
        positions=(),
        split="validation",
        target_rates=TARGET_RATES,
        seed=0,
        as_json=False,
        html=page,
    )
    negatives = {
        clip.path: clip
        for dataset in data.heldout_negatives
        for clip in dataset.clips
        if clip.path not in data.said_in
    }
    evaluate_run.evaluate(
        Spotter.load(model),
        [word.dataset for word in data.heldout_words],
        [*negatives.values()],
        options,
    )


def _describe_amount(data: KeywordData) -> str:
    minutes = sum(word.dataset.seconds for word in data.words) / 60
    hours = sum(source.dataset.seconds for source in data.negatives) / 3600
    return f"{minutes:.1f} min of the word, {format_duration(hours)} of other sounds"


def _describe_device(device: torch.device) -> str:
    count = distributed.world_size()
    return f"{count} × {device.type}" if count > 1 else device.type


def _summarize(document: dict, path: Path) -> list[str]:
    calibration = document["calibration"]
    hours, target = calibration["hours"], calibration["target_false_alarms_per_hour"]
    lines = [f"{path} (calibrated on {describe_hours(calibration['hours_by_kind'])})"]
    for row in calibration["rows"]:
        lines.append(
            f"  {row['word']}: {row['false_alarms_per_hour']:g} false alarms/h at "
            f"{row['threshold']:.3f}, {row['miss_rate']:.1%} missed"
        )
    lines.append(f"  misses are measured on {calibration['misses_measured_on']}")
    if not is_rate_measurable(hours, target):
        lines.append(
            f"  too little held-out speech for {target:g} false alarms/h: "
            f"{explain_too_few_hours(hours)}. Add --negatives."
        )
    confusables = document.get("confusables")
    if confusables:
        lines.append(
            f"  {confusables['alarms']} of {confusables['clips']} clips of confusables fire at "
            f"{document['events']['threshold'][0]:.3f}, the model's own threshold"
        )
    return lines
