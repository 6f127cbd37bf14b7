"""Strengths of mixing and augmentation. Imports no torch: the command line shows training
settings where only the light installation is there."""

from dataclasses import dataclass

from kws.audio.recordings import SAMPLE_RATE

FIRING_SAMPLES = 3200  # 0.2 s after a word, in which the network is to fire
MARGIN_SAMPLES = 800  # 50 ms of a clip are kept before and after its word
MAX_CUT_CONTEXT_SAMPLES = 4800  # 0.3 s beside a word are kept at most where something is cut off


@dataclass(frozen=True)
class MixConfig:
    """What examples are mixed from. A fraction is of all examples unless the comment says more."""

    positive_fraction: float = 0.4  # with the word
    # Of the examples without the word: one clip stands where a word would, so that standing alone
    # does not give the word away.
    isolated_negative_fraction: float = 0.4
    context_fraction: float = 0.6  # before a word, and after it: other speech rather than silence
    # Of the words with other speech around them: it is cut off before the word, and after it.
    context_cut_fraction: float = 0.3
    # The recording begins right before a word or other sound, and ends right after it: there is
    # nothing but digital silence beyond.
    recording_cut_fraction: float = 0.2
    repeat_fraction: float = 0.2  # of the examples with the word: it occurs a second time, earlier
    repeat_context_fraction: float = 0.3  # of these: other speech is kept before that
    recorded_noise_fraction: float = 0.5
    babble_fraction: float = 0.15  # several speakers at once; the rest is coloured noise
    # Of the clips that stand alone: the noise begins and ends with the clip, as in recordings that
    # are cut out or played back. It is fainter than other noise.
    room_tone_fraction: float = 0.3
    room_tone_db: tuple[float, float] = (0.0, 25.0)
    # Tempo of half of the clips, relative to their own; and the standard deviation of its logarithm
    # within a clip, between points that lie so far apart.
    speed_range: tuple[float, float] = (0.82, 1.22)
    tempo_deviation: float = 0.15
    tempo_knot_seconds: float = 0.12


DEFAULT_MIX = MixConfig()


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of the augmentation. Each fraction is of the clips of a batch; 0 switches that part
    off."""

    room_fraction: float = 0.9
    equalized_fraction: float = 0.0
    equalizer_db: float = 5.0  # standard deviation at each knot
    noisy_fraction: float = 0.85
    # 45 dB is barely audible; recordings of people always hold that much noise.
    snr_db: tuple[float, float] = (0.0, 45.0)
    band_limited_fraction: float = 0.2  # as by telephones, codecs and low sample rates
    band_limit_hz: tuple[float, float] = (3000.0, 7000.0)
    gain_fraction: float = 1.0
    peak_db: tuple[float, float] = (-35.0, 0.0)  # of full scale
    clipped_fraction: float = 0.05  # of the clips with another gain


@dataclass(frozen=True)
class SpecAugmentConfig:
    """How many stripes of a spectrogram are hidden, and how wide they are at most."""

    mel_masks: int = 1
    max_mel_mask_bands: int = 7
    time_masks: int = 1
    max_time_mask_hops: int = 20


def max_word_seconds(clip_seconds: float, slowest_speed: float) -> float:
    """Longest sound of a word, in seconds, that fits into an example when it is played at its
    slowest: with the margin before it, and the time after it in which the network is to fire."""
    free_samples = clip_seconds * SAMPLE_RATE - FIRING_SAMPLES - MARGIN_SAMPLES
    return free_samples / SAMPLE_RATE * slowest_speed
