"""Downmix: the mean of all channels, unless they cancel.

In some stereo recordings one channel is the other one inverted, as by a cable with swapped wires.
Their mean is silence. So where the mean has lost nearly all power, the loudest channel replaces it.
This is decided for segments of 50 ms from the beginning, so it does not depend on the length of the
chunks.
"""

import numpy as np

from kws.errors import AudioError

_SEGMENTS_PER_SECOND = 20
_MIN_POWER_RATIO = 0.2  # of the power that the mean of uncorrelated channels has
# The first channel with this ratio of the highest power is used: equal channels must not alternate.
_LOUDEST_CHANNEL_RATIO = 0.8


class Downmix:
    """Mixes one source at `rate` Hz to mono. channel: use this one, counted from 1, instead of the
    mean. source_name: stands in errors."""

    def __init__(self, rate: int, channel: int | None, source_name: str):
        self._channel, self._source_name = channel, source_name
        self._segment_frames = max(1, rate // _SEGMENTS_PER_SECOND)
        self._pending_frames: np.ndarray | None = None

    def feed(self, chunk: np.ndarray) -> np.ndarray:
        """Mono samples [m] of a chunk [n] or [n, channels]. Samples short of a segment wait for the
        next chunk.

        Raises AudioError for a missing channel.
        """
        if chunk.ndim == 1:
            chunk = chunk[:, None]
        if self._channel is not None:
            return self._select_channel(chunk, self._channel)
        if chunk.shape[1] == 1:
            return chunk[:, 0]
        frames = (
            chunk if self._pending_frames is None else np.concatenate([self._pending_frames, chunk])
        )
        complete_frames = len(frames) - len(frames) % self._segment_frames
        self._pending_frames = frames[complete_frames:]
        return _downmix_segments(frames[:complete_frames], self._segment_frames)

    def finish(self) -> np.ndarray:
        """The samples that still wait."""
        pending_frames, self._pending_frames = self._pending_frames, None
        if pending_frames is None or not len(pending_frames):
            return np.zeros(0, np.float32)
        return _downmix_segments(pending_frames, len(pending_frames))

    def _select_channel(self, chunk: np.ndarray, channel: int) -> np.ndarray:
        channels = chunk.shape[1]
        if channel > channels:
            channel_text = f"{channels} channel" + ("s" if channels > 1 else "")
            raise AudioError(
                f"{self._source_name}: no channel {channel} in it; it has {channel_text}. "
                "Change --channel."
            )
        selected: np.ndarray = chunk[:, channel - 1]
        return selected


def _downmix_segments(frames: np.ndarray, segment_frames: int) -> np.ndarray:
    """Mono samples of whole segments [n, channels]."""
    channels = frames.shape[1]
    # 16 times as fast as frames.mean(axis=1) for two channels.
    mean: np.ndarray = (sum(frames.T) / np.float32(channels)).reshape(-1, segment_frames)
    segments = frames.reshape(-1, segment_frames, channels)
    channel_power = np.einsum("pfc,pfc->pc", segments, segments)
    mean_power = np.einsum("pf,pf->p", mean, mean)
    cancelled_segments = np.flatnonzero(
        mean_power < _MIN_POWER_RATIO / channels * channel_power.mean(axis=1)
    )
    if len(cancelled_segments):
        loudest_channel = (
            channel_power >= _LOUDEST_CHANNEL_RATIO * channel_power.max(axis=1, keepdims=True)
        ).argmax(axis=1)
        mean[cancelled_segments] = segments[
            cancelled_segments, :, loudest_channel[cancelled_segments]
        ]
    return mean.reshape(-1)
