"""E-Branchformer: the paper's layer, written out again; nothing sees padding."""

import pytest
import torch
from torch.nn.functional import gelu, layer_norm, silu

from speechbrain_birq.models.encoders.e_branchformer import EBranchformerEncoderLayer

H, HEADS, FFN, KERNEL = 8, 2, 12, 5


@pytest.fixture
def layer():
    """A layer in float64 whose weights are far from their initial values."""
    layer = EBranchformerEncoderLayer(
        d_model=H, nhead=HEADS, d_ffn=FFN, kernel_size=KERNEL
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.copy_(
                0.5 * torch.randn(parameter.shape, generator=generator).double()
            )
    return layer.eval()


def normalized(x, weights, name):
    return layer_norm(x, (H,), weights[f"{name}.weight"], weights[f"{name}.bias"])


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def feed_forward(x, weights, name):
    x = normalized(x, weights, f"{name}.0")
    x = silu(linear(x, weights, f"{name}.1.ffn.0"))
    return linear(x, weights, f"{name}.1.ffn.3")


def rotated(vector, time):
    """Pairs of channels (2 i, 2 i + 1) turned by time / 10000^(2 i / width)."""
    pairs = torch.view_as_complex(vector.reshape(-1, 2).contiguous())
    angles = time / 10000 ** (2 * torch.arange(len(pairs)).double() / len(vector))
    return torch.view_as_real(pairs * torch.exp(1j * angles)).flatten()


def attention(x, weights):
    """One frame, one head, one dot product at a time; 1 / sqrt(H) as SpeechBrain."""
    frames, width = len(x), H // HEADS
    heads = []
    for head in weights["mha_layer.in_proj_weight"].chunk(HEADS):
        query, key, value = (x @ matrix.T for matrix in head.chunk(3))
        scores = torch.empty(frames, frames, dtype=x.dtype)
        for t in range(frames):
            for s in range(frames):
                scores[t, s] = rotated(query[t], t) @ rotated(key[s], s) / H**0.5
        assert value.shape == (frames, width)
        heads.append(scores.softmax(-1) @ value)
    return linear(torch.cat(heads, -1), weights, "mha_layer.out_proj")


def depthwise(x, kernel, bias):
    """Every channel with its own kernel, zeros before the first and after the last."""
    out = torch.zeros_like(x) + bias
    half = kernel.shape[-1] // 2
    for t in range(len(x)):
        for offset in range(-half, half + 1):
            if 0 <= t + offset < len(x):
                out[t] += x[t + offset] * kernel[:, 0, offset + half]
    return out


def gated_convolution(x, weights):
    x = gelu(linear(x, weights, "convolution_branch.pre_channel_proj"))
    kept, gate = x.chunk(2, -1)
    name = "convolution_branch.csgu"
    gate = layer_norm(
        gate,
        (FFN // 2,),
        weights[f"{name}.norm.norm.weight"],
        weights[f"{name}.norm.norm.bias"],
    )
    gate = depthwise(
        gate, weights[f"{name}.conv.conv.weight"], weights[f"{name}.conv.conv.bias"]
    )
    return linear(kept * gate, weights, "convolution_branch.post_channel_proj")


def written_out(x, weights):
    """One layer over one utterance (T, H)."""
    x = x + feed_forward(x, weights, "first_half") / 2
    branches = [
        attention(normalized(x, weights, "norm_attention"), weights),
        gated_convolution(normalized(x, weights, "norm_convolution"), weights),
    ]
    both = torch.cat(branches, -1)
    merged = both + depthwise(
        both, weights["merge_convolution.weight"], weights["merge_convolution.bias"]
    )
    x = x + linear(merged, weights, "merge")
    x = x + feed_forward(x, weights, "second_half") / 2
    return normalized(x, weights, "norm")


@torch.no_grad()
def test_a_layer_is_the_equations_of_the_paper(layer):
    x = torch.randn(2, 11, H, dtype=torch.float64)
    out, _ = layer(x)
    weights = layer.state_dict()
    for mine, utterance in zip(out, x, strict=True):
        expected = written_out(utterance, weights)
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["first_half", "second_half", "merge_convolution"])
@torch.no_grad()
def test_every_part_of_the_equations_matters(layer, name):
    x = torch.randn(1, 11, H, dtype=torch.float64)
    before, _ = layer(x)
    for parameter in getattr(layer, name).parameters():
        parameter.zero_()
    assert (layer(x)[0] - before).abs().max() > 1e-3


@torch.no_grad()
def test_the_merging_convolution_sees_no_padding(layer):
    """Attention and gate aside: only the merge looks at neighbors here."""
    both = torch.randn(1, 9, 2 * H, dtype=torch.float64)
    padding = torch.arange(9).unsqueeze(0) >= 6
    alone = layer._merge(both[:, :6], None)
    junk = both.masked_fill(padding.unsqueeze(-1), 1e3)
    torch.testing.assert_close(
        layer._merge(junk, padding)[:, :6], alone, rtol=0, atol=1e-12
    )
    assert (layer._merge(junk, None)[:, :6] - alone).abs().max() > 1


@pytest.mark.parametrize("attention_type", ["RoPEMHA", "RelPosMHAXL"])
@torch.no_grad()
def test_utterances_of_1_to_15_frames_under_a_kernel_of_31(
    make_encoder, attention_type
):
    encoder = make_encoder(
        "e_branchformer", kernel_size=31, attention_type=attention_type
    )
    for parameter in encoder.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    lengths = torch.arange(1, 16)
    frames = torch.randn(15, 20, 40)
    together = encoder(frames, lengths)
    for frame, mine, length in zip(frames, together, lengths.tolist(), strict=True):
        alone = encoder(frame[None, :length], torch.tensor([length]))[0]
        torch.testing.assert_close(mine[:length], alone, rtol=0, atol=1e-5)
