"""Fixtures of the models' tests."""

import pytest
import torch


@pytest.fixture
def batch():
    """Two waveforms, the second shorter; a mask that also covers padding."""
    generator = torch.Generator().manual_seed(5)
    wavs = 0.1 * torch.randn(2, 3200, generator=generator)
    wavs[1, 2240:] = 0
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, 2:6] = mask[1, 1:3] = mask[1, 5:] = True
    return wavs, torch.tensor([1.0, 0.7]), mask
