"""Attention within a window: equal to full attention under a band, and blind beyond."""

from pathlib import Path

import pytest
import torch
from speechbrain.nnet.attention import RoPEMHA
from torch.nn.attention import SDPBackend, sdpa_kernel

from speechbrain_birq.checkpoints.run_folder import load_architecture, save_architecture
from speechbrain_birq.config import load_configuration
from speechbrain_birq.models.encoders.windowed_attention import (
    WindowedRoPEMHA,
    within_window,
)

TINY = Path(__file__).parents[3] / "hparams" / "birq_tiny.yaml"
SIZE = dict(num_layers=3, d_model=16, d_ffn=32)


def pair(window, dropout=0.0):
    """SpeechBrain's attention and ours, with the same weights."""
    torch.manual_seed(0)
    full = RoPEMHA(16, 2, dropout)
    return full.eval(), within_window(full, window).eval()


def states(batch, time, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, 16, generator=generator, requires_grad=True)


def padding_of(lengths, time):
    return torch.arange(time) >= torch.tensor(lengths).unsqueeze(1)


def band(time, window):
    """(T, T) bool, True where attention is forbidden."""
    forbidden = torch.ones(time, time, dtype=torch.bool)
    for t in range(time):
        for s in range(time):
            if abs(t - s) <= window // 2:
                forbidden[t, s] = False
    return forbidden


@pytest.mark.parametrize("window", [2, 3, 8, 20, 64])
@pytest.mark.parametrize("time", [1, 2, 5, 16, 33])
def test_it_equals_full_attention_under_a_band(window, time):
    full, windowed = pair(window)
    lengths = [time, max(1, time // 2)]
    padding = padding_of(lengths, time)
    first, second = states(2, time), states(2, time)
    expected, _ = full(first, first, first, padding, band(time, window))
    found, _ = windowed(second, second, second, key_padding_mask=padding)
    valid = ~padding
    torch.testing.assert_close(found[valid], expected[valid], rtol=0, atol=1e-5)

    weight = torch.randn(valid.sum(), 16, generator=torch.Generator().manual_seed(1))
    (expected[valid] * weight).sum().backward()
    (found[valid] * weight).sum().backward()
    torch.testing.assert_close(second.grad, first.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        windowed.in_proj_weight.grad, full.in_proj_weight.grad, rtol=0, atol=1e-4
    )


def test_without_a_padding_mask_nothing_is_padding():
    _, windowed = pair(4)
    x = states(1, 11)
    none = padding_of([11], 11)
    torch.testing.assert_close(
        windowed(x, x, x)[0], windowed(x, x, x, key_padding_mask=none)[0]
    )


@torch.no_grad()
@pytest.mark.parametrize("window", [4, 5])
def test_a_frame_outside_the_window_has_no_influence(window):
    _, windowed = pair(window)
    x = states(1, 30)
    changed = x.clone()
    changed[0, 12] += 100
    moved = (windowed(x, x, x)[0] - windowed(changed, changed, changed)[0]).abs()
    seen = torch.nonzero(moved[0].amax(1) > 0).flatten().tolist()
    assert seen == [10, 11, 12, 13, 14]


@torch.no_grad()
def test_padding_is_finite_and_without_influence():
    _, windowed = pair(4)
    x, padding = states(2, 25), padding_of([25, 3], 25)
    junk = x.clone()
    junk[1, 3:] = 1e4
    clean, other = (windowed(s, s, s, key_padding_mask=padding)[0] for s in (x, junk))
    assert other.isfinite().all()
    torch.testing.assert_close(clean[1, :3], other[1, :3], rtol=0, atol=1e-5)


def test_dropout_drops_in_training_only():
    _, windowed = pair(4, dropout=0.5)
    x = states(1, 20)
    assert torch.equal(windowed(x, x, x)[0], windowed(x, x, x)[0])
    windowed.train()
    assert not torch.equal(windowed(x, x, x)[0], windowed(x, x, x)[0])


@pytest.mark.parametrize("window", [1, 0, -4, 2.5, 8.0, True])
def test_a_window_that_is_not_whole_or_without_a_neighbor_is_refused(window):
    with pytest.raises(ValueError, match=f"a whole number from 2, got {window}"):
        WindowedRoPEMHA(16, 2, window=window)


@pytest.mark.parametrize("batch", [1, 3])
def test_fused_attention_takes_the_blocks(batch):
    """PyTorch otherwise keeps every score, in silence."""
    _, windowed = pair(4)
    x, padding = states(batch, 25), padding_of([25] * batch, 25)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises where it cannot be taken
        assert windowed(x, x, x, key_padding_mask=padding)[0].isfinite().all()


def test_a_second_mask_is_refused():
    _, windowed = pair(4)
    x = states(1, 20)
    with pytest.raises(ValueError, match="attention_window and chunks"):
        windowed(x, x, x, attn_mask=band(20, 4))


@pytest.mark.parametrize(("window", "reach"), [(None, None), (6, 3), (7, 3)])
def test_the_key_reaches_every_layer_and_the_run_folder(tmp_path, window, reach):
    folders = dict(data_folder="x", output_folder=str(tmp_path))
    resolved = load_configuration(
        TINY, folders | SIZE | dict(attention_window=window)
    ).resolved
    save_architecture(resolved, tmp_path / "architecture.yaml")
    encoder = load_architecture(tmp_path)["encoder"]
    found = [getattr(layer.mha_layer, "reach", None) for layer in encoder.layers]
    assert found == [reach] * 3
