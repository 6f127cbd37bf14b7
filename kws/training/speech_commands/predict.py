"""Classes of clips, as a network in torch or a model file predicts them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from kws.runtime.engine import Engine
from kws.runtime.model_file import ModelInfo
from kws.runtime.output import StepOutput, concatenate_outputs
from kws.training.model.network import ScanningCNN
from kws.training.speech_commands.batches import center_clips
from kws.training.speech_commands.dataset import LabeledClips
from kws.training.speech_commands.lexicon import SCORED_FRAMES, Lexicon
from kws.training.speech_commands.objective import lead_samples

PREDICTION_BATCH = 512


@torch.no_grad()
def predict(network: ScanningCNN, part: LabeledClips, lexicon: Lexicon | None = None) -> np.ndarray:
    """Class of each clip [n], by a network, and by a lexicon if it recognises phones."""
    network.eval()
    lead, device, classes = lead_samples(network.config), network.head.weight.device, []
    samples = lead + network.config.clip_frame_samples
    for clips in _batches(part):
        output, _ = network(center_clips(clips.to(device), samples, lead))
        p = output.pooled[..., -1].exp().cpu().numpy()
        phones = output.phones.log_softmax(1).mT.cpu().numpy()
        classes.append(_pick_classes(p, phones, lexicon))
    return np.concatenate(classes)


def predict_streaming(
    engine: Engine, part: LabeledClips, chunk_samples: int | None = None
) -> np.ndarray:
    """Class of each clip [n], by a model file, which gets each clip as a stream after silence.

    chunk_samples: a multiple of the model's frame; None for the whole clip at once.
    """
    lexicon, context, classes = load_lexicon(engine.info), engine.info.context_samples, []
    context_frames = -(-context // engine.info.frame_samples)
    samples = max(context_frames, SCORED_FRAMES) * engine.info.frame_samples
    chunk_samples = chunk_samples or samples
    for clips in _batches(part):
        # The last frame ends where the clip's audio does.
        audio = F.pad(center_clips(clips, context), (samples - context, 0)).numpy()
        outputs = [_run_stream(engine, clip, chunk_samples) for clip in audio]
        p = np.stack([output.pooled[-1] for output in outputs])
        classes.append(_pick_classes(p, np.stack([output.phones for output in outputs]), lexicon))
    return np.concatenate(classes)


def _run_stream(engine: Engine, audio: np.ndarray, chunk_samples: int) -> StepOutput:
    """The output of all frames in audio [n], given in chunks."""
    stream = engine.open_stream()
    return concatenate_outputs(
        [stream.step(audio[at : at + chunk_samples]) for at in range(0, len(audio), chunk_samples)]
    )


def load_lexicon(info: ModelInfo) -> Lexicon | None:
    """The lexicon of a model that recognises phones."""
    values = info.document.get("lexicon")
    return Lexicon.from_dict(values) if values else None


def balanced_accuracy(part: LabeledClips, predicted: np.ndarray) -> float:
    """Mean accuracy of the classes: validation parts may hold few unknown words."""
    recalls = [
        (predicted[part.labels == label] == label).mean() for label in np.unique(part.labels)
    ]
    return float(np.mean(recalls))


def _batches(part: LabeledClips) -> Iterator[torch.Tensor]:
    for start in range(0, len(part), PREDICTION_BATCH):
        yield torch.from_numpy(part.samples[start : start + PREDICTION_BATCH])


def _pick_classes(p: np.ndarray, phones: np.ndarray, lexicon: Lexicon | None) -> np.ndarray:
    """Class of each clip, from the probabilities of the classes [n, W] and log p of the phones
    [n, F, L]."""
    if lexicon is None:
        return p.argmax(1)
    p = p.astype(np.float64).clip(1e-12, 1 - 1e-7)
    logits = np.log(p) - np.log1p(-p)
    return lexicon.rescore(logits, phones).argmax(1)
