"""Masks of the spectrogram, and mixup."""

import torch

from kws.training.augment.spec_augment import SpecAugmentConfig, apply_mixup, draw_spec_masks


def test_masks_are_stripes():
    config = SpecAugmentConfig(
        mel_masks=1, max_mel_mask_bands=5, time_masks=1, max_time_mask_hops=10
    )
    masks = draw_spec_masks(200, 40, 100, config, torch.Generator().manual_seed(0))
    hidden_mels, hidden_times = (masks == 0).all(2).sum(1), (masks == 0).all(1).sum(1)
    assert hidden_mels.max() == 5
    assert hidden_times.max() == 10
    assert hidden_mels.min() == hidden_times.min() == 0
    shown = masks.any(2)[:, :, None] & masks.any(1)[:, None]
    assert torch.equal(masks.bool(), shown)


def test_mixup_mixes_targets_like_audio():
    targets = torch.eye(8)
    audio, after = apply_mixup(torch.eye(8), targets, 0.5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(audio, after)
    torch.testing.assert_close(after.sum(1), torch.ones(8))
    assert (after.argmax(1) == targets.argmax(1)).all()  # its own share is never the smaller
    assert 0 < (after.max(1).values < 1).sum() < 8
