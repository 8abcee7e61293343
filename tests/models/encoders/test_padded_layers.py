"""Padding is an argument of the layers: no call leaves anything for another."""

import pytest
import torch
from speechbrain.lobes.models.convolution import ConvolutionalSpatialGatingUnit
from speechbrain.lobes.models.transformer.Conformer import ConvolutionModule

from speechbrain_birq.models.encoders.chunking import make_chunk
from speechbrain_birq.models.encoders.padded_layers import PADDED, PaddedGate

DIM = 40
KINDS = pytest.mark.parametrize("kind", ["conformer", "branchformer", "e_branchformer"])


@pytest.fixture
def encoder(make_encoder, kind):
    return scrambled(make_encoder(kind, attention_type="RelPosMHAXL"))


def scrambled(encoder):
    """Away from the initial weights: a Branchformer's convolutions start at zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return encoder


def utterances(*lengths):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(len(lengths), max(lengths), DIM, generator=generator)
    return frames, torch.tensor(lengths)


class StockGate(ConvolutionalSpatialGatingUnit):
    """SpeechBrain's, which takes no padding."""

    def forward(self, x, padding=None):
        return super().forward(x)


def with_stock_layers(encoder):
    """The encoder with SpeechBrain's own convolutions."""
    stock = {mine: theirs for theirs, mine in PADDED.items()} | {PaddedGate: StockGate}
    for module in encoder.modules():
        if stock.get(type(module)) in (ConvolutionModule, StockGate):
            module.__class__ = stock[type(module)]
    return encoder


@KINDS
@torch.no_grad()
def test_the_stock_layers_see_their_padding(encoder):
    """The power of the padding tests: with SpeechBrain's layers they would fail."""
    frames, lengths = utterances(25, 40)
    alone = frames[:1, :25], lengths[:1]
    exact = encoder(frames, lengths)[0, :25] - encoder(*alone)[0]
    assert exact.abs().max() < 1e-5
    stock = with_stock_layers(encoder)
    assert (stock(frames, lengths)[0, :25] - stock(*alone)[0]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("chunk", [None, make_chunk(1), make_chunk(4), make_chunk(50)])
def test_without_padding_a_conformer_is_speechbrains(make_encoder, chunk):
    batch = utterances(22, 22)
    expected = with_stock_layers(scrambled(make_encoder()))(*batch, chunk=chunk)
    found = scrambled(make_encoder())(*batch, chunk=chunk)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@KINDS
@torch.no_grad()
def test_away_from_the_ends_a_convolution_is_speechbrains(encoder):
    """At the ends SpeechBrain's gate mirrors frames, two of them for a kernel of 5."""
    padded = [m for m in encoder.modules() if type(m) in PADDED.values()]
    convolutions = [m for m in padded if hasattr(m, "conv")]
    assert len(convolutions) == encoder.num_layers
    for module in convolutions:
        halves = 2 if isinstance(module, PaddedGate) else 1
        frames = torch.randn(1, 30, halves * module.conv.in_channels)
        expected = type(module).__mro__[1].forward(module, frames)
        torch.testing.assert_close(module(frames)[:, 2:-2], expected[:, 2:-2])


@KINDS
def test_names_of_parameters_are_speechbrains(encoder):
    names = [name for name, _ in encoder.named_parameters()]
    assert names == [n for n, _ in with_stock_layers(encoder).named_parameters()]


def gradients(encoder, loss):
    encoder.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in encoder.parameters() if p.grad is not None]


def loss_of(encoder, frames, lengths):
    valid = torch.arange(frames.shape[1]) < lengths.unsqueeze(1)
    # Not of squares: behind a LayerNorm their sum is a constant.
    return encoder(frames, lengths)[valid].sin().sum()


@KINDS
@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_forward_between_forward_and_backward_changes_no_gradient(
    make_encoder, kind, checkpointing
):
    """Checkpointed layers run again in the backward pass: with their own padding."""
    encoder = make_encoder(
        kind, attention_type="RelPosMHAXL", activation_checkpointing=checkpointing
    )
    scrambled(encoder).train()
    first, other = utterances(40, 7, 25), utterances(3, 40, 11)
    alone = gradients(encoder, loss_of(encoder, *first))
    loss = loss_of(encoder, *first)
    loss_of(encoder, *other)
    torch.testing.assert_close(gradients(encoder, loss), alone, rtol=0, atol=0)


@KINDS
def test_nothing_is_left_behind_by_a_call(encoder):
    before = {name: dict(m.__dict__) for name, m in encoder.named_modules()}
    encoder(*utterances(3, 9))
    for name, module in encoder.named_modules():
        assert module.__dict__.keys() == before[name].keys()
        assert not module._forward_hooks and not module._forward_pre_hooks, name
        for key, value in module.__dict__.items():
            assert value is before[name][key], (name, key)
