"""Training settings of a classifier of clips."""

from dataclasses import dataclass
from pathlib import Path

from kws.training.augment.config import SpecAugmentConfig
from kws.training.fit.config import TrainConfig


@dataclass(frozen=True)
class ClassifierTrainConfig(TrainConfig, SpecAugmentConfig):
    """Training settings. Each ingredient is off at zero (`speed_range`: at 1). `clip_seconds` and
    the other fields of `MixConfig` are not used."""

    epochs: int = 40
    steps_per_epoch: int = 100
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    room_fraction: float = 0.15
    equalized_fraction: float = 0.5
    noisy_fraction: float = 0.4
    snr_db: tuple[float, float] = (0.0, 30.0)
    band_limited_fraction: float = 0.0
    gain_fraction: float = 0.5
    speed_range: tuple[float, float] = (0.87, 1.15)
    shift_seconds: float = 0.1
    mixup: float = 0.15  # fraction of a batch that is mixed with other clips
    label_smoothing: float = 0.05
    balanced: bool = True  # every class as often, and every word of a class, rather than every clip
    unknown_weight: float = 2.5  # how often unknown words are drawn, relative to one known class
    # Fractions of the unknown words that are synthetic:
    reversed_fraction: float = 0.05  # a known word backwards
    cross_word_splice_fraction: float = 0.1  # the beginning of one known word, the end of another
    shuffled_fraction: float = 0.1  # segments of known words in any order
    other_speech_fraction: float = 0.05  # a second of other speech
    snippet_fraction: float = 0.1  # a word's length of it, in silence
    isolated_fraction: float = 0.15  # another recording as short as a word
    # Fractions of recordings of the data set that are replaced:
    same_word_splice_fraction: float = 0.1  # of known words, by two recordings of the word spliced
    out_of_corpus_fraction: float = 0.15  # of known words, by the word from another data set
    out_of_corpus_unknown_fraction: float = 0.4  # of unknown words, by the same
    # Of the clips of other data sets: over the room tone of a recording of this one.
    match_room_tone_fraction: float = 0.8
    # Of the silence: cut from any noise at any level, rather than a clip of the protocol.
    random_silence_fraction: float = 0.7


def default_learning_rate(init_from: Path | None) -> float:
    """Lower for a network that starts from a pre-trained encoder."""
    return 2e-3 if init_from else ClassifierTrainConfig.learning_rate
