"""The block Conformer: its counts, its arithmetic, its padding."""

import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from speechbrain_birq.models.encoders.block_conformer import (
    MAX_DISTANCE,
    BlockAttention,
    BlockConformerEncoder,
    BlockConformerLayer,
)
from speechbrain_birq.models.encoders.valid_batch_norm import checkpoint_contexts

SIZES = dict(d_model=8, nhead=2, d_ffn=16, kernel_size=5)


def layer(**changed):
    torch.manual_seed(0)
    made = BlockConformerLayer(**SIZES | changed)
    norm = made.convolution.batch_norm  # a trained one has statistics of its own
    torch.nn.init.normal_(norm.running_mean)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return made.double()


@pytest.mark.parametrize(
    "num_layers, d_model, nhead, millions",
    [(5, 1024, 8, 137.44), (10, 768, 6, 155.25), (10, 1024, 8, 274.72)],
    ids=["C1", "C2", "C3"],
)
def test_parameters_are_the_papers(num_layers, d_model, nhead, millions):
    with torch.device("meta"):
        encoder = BlockConformerEncoder(
            num_layers=num_layers,
            d_model=d_model,
            nhead=nhead,
            d_ffn=4 * d_model,
            kernel_size=15,
        )
        projection = torch.nn.Linear(160, d_model)
    modules = torch.nn.ModuleList([encoder, projection])
    found = sum(parameter.numel() for parameter in modules.parameters())
    assert found / 1e6 == pytest.approx(millions, abs=0.005)


def attention_by_loops(module, states):
    """One utterance (T, H), frame by frame."""
    heads, block = module.nhead, module.block
    time, width = states.shape
    size = width // heads
    normed = module.norm(states)
    query = module.query(normed)
    key, value = module.key_value(normed).chunk(2, -1)
    output = torch.zeros_like(states)
    for t in range(time):
        first = t // block * block
        seen = range(first, min(first + block, time))
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = []
            for s in seen:
                distance = max(-MAX_DISTANCE, min(MAX_DISTANCE, t - s))
                vector = module.distances.weight[distance + MAX_DISTANCE]
                score = sum(query[t, part] * (key[s, part] + vector))
                scores.append(float(score) / math.sqrt(size))
            norm = sum(math.exp(score) for score in scores)
            for s, score in zip(seen, scores, strict=True):
                output[t, part] += math.exp(score) / norm * value[s, part]
    return module.output(output)


@pytest.mark.parametrize("time", [1, 3, 4, 11])
@torch.no_grad()
def test_attention_is_shaws_within_blocks(time):
    torch.manual_seed(1)
    module = BlockAttention(d_model=8, nhead=2, block=4).double()
    states = torch.randn(time, 8, dtype=torch.double)
    found = module(states[None], torch.ones(1, time, dtype=torch.bool))
    expected = attention_by_loops(module, states)
    torch.testing.assert_close(found[0], expected, atol=1e-10, rtol=0)


@torch.no_grad()
def test_distances_beyond_the_longest_share_a_vector():
    module = BlockAttention(d_model=4, nhead=1)
    vectors = module._vectors(MAX_DISTANCE + 3)
    assert torch.equal(vectors[0], module.distances.weight[-1])
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[2], vectors[3])
    assert torch.equal(vectors[-1], module.distances.weight[0])


@torch.no_grad()
def test_without_blocks_an_utterance_is_one_block():
    torch.manual_seed(1)
    whole = BlockAttention(d_model=8, nhead=2)
    parts = BlockAttention(d_model=8, nhead=2, block=5)
    parts.load_state_dict(whole.state_dict())
    states = torch.randn(1, 9, 8)
    valid = torch.ones(1, 9, dtype=torch.bool)
    assert not torch.allclose(whole(states, valid), parts(states, valid))
    parts.block = 9
    torch.testing.assert_close(whole(states, valid), parts(states, valid))


@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize("length", [1, 3, 4, 9, 13])
@torch.no_grad()
def test_an_utterance_does_not_depend_on_its_padding(block, length):
    module = layer(block=block).eval()
    states = torch.randn(2, 13, 8, dtype=torch.double)
    padding = torch.arange(13) >= torch.tensor([[length], [13]])
    found, _ = module(states, padding)
    alone, _ = module(states[:1, :length], padding[:1, :length])
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:1, :length], alone, atol=1e-10, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_batch_enters_the_statistics_once(checkpointing):
    module = layer()
    padding = torch.zeros(1, 6, dtype=torch.bool)
    states = torch.randn(1, 6, 8, dtype=torch.double, requires_grad=True)
    if checkpointing:
        output, _ = checkpoint(
            module, states, padding, use_reentrant=False, context_fn=checkpoint_contexts
        )
    else:
        output, _ = module(states, padding)
    before = module.convolution.batch_norm.running_mean.clone()
    output.square().sum().backward()
    after = module.convolution.batch_norm
    assert torch.equal(after.running_mean, before)
    assert after.num_batches_tracked == 1


def test_mixed_precision_keeps_the_statistics_in_float32():
    module = BlockConformerLayer(**SIZES)
    padding = torch.zeros(1, 6, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = module(torch.randn(1, 6, 8), padding)
    assert torch.isfinite(output).all()
    assert module.convolution.batch_norm.running_var.dtype == torch.float32


NAMES = {
    "ff1.pre_norm": "first.0",
    "ff1.up_proj": "first.1.ffn.0",
    "ff1.down_proj": "first.1.ffn.3",
    "attn.pre_norm": "attention.norm",
    "attn.to_q": "attention.query",
    "attn.to_kv": "attention.key_value",
    "attn.to_out": "attention.output",
    "attn.rel_pos_emb": "attention.distances",
    "conv.norm": "convolution.norm",
    "conv.up_conv": "convolution.expand",
    "conv.depth_conv.conv": "convolution.depthwise",
    "conv.batch_norm": "convolution.batch_norm",
    "conv.down_conv": "convolution.contract",
    "ff2.pre_norm": "second.0",
    "ff2.up_proj": "second.1.ffn.0",
    "ff2.down_proj": "second.1.ffn.3",
    "post_norm": "norm",
}


@pytest.mark.parametrize("time", [7, 20, 33])
@torch.no_grad()
def test_the_layer_is_the_one_of_granite_speech(time):
    granite = pytest.importorskip(
        "transformers.models.granite_speech.modeling_granite_speech"
    )
    from transformers import GraniteSpeechEncoderConfig

    configuration = GraniteSpeechEncoderConfig(
        num_layers=1, hidden_dim=8, num_heads=2, feedforward_mult=2, context_size=20
    )
    configuration.conv_kernel_size = 5
    ours, theirs = layer(block=20).eval(), granite.GraniteSpeechConformerBlock
    theirs = theirs(configuration).double().eval()
    state = ours.state_dict()
    for name, value in theirs.state_dict().items():
        owner, _, kind = name.rpartition(".")
        value.copy_(state[f"{NAMES[owner]}.{kind}"].view_as(value))
    place = torch.arange(20)
    distances = place[:, None] - place + configuration.max_pos_emb
    states = torch.randn(1, time, 8, dtype=torch.double)
    expected = theirs(states, attention_dists=distances)
    found, _ = ours(states, torch.zeros(1, time, dtype=torch.bool))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("block", [0, 2.5, "5", True])
def test_a_block_that_is_no_number_of_frames_is_refused(block):
    with pytest.raises(ValueError, match="attention_window of BlockAttention must be"):
        BlockAttention(d_model=8, nhead=2, block=block)
