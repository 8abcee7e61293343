"""Encoder: padding, early exit, hidden states, unsupported pairs."""

import math
import weakref
from functools import partial

import pytest
import torch
from speechbrain.nnet.attention import _get_precomputed_values
from torch._dynamo.utils import counters

from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.encoders.inputs import ConvolutionalInput
from speechbrain_birq.models.encoders.layers import ATTENTION

PAIRS = [(kind, attention) for kind, names in ATTENTION.items() for attention in names]
LENGTHS = (1, 2, 3, 9, 40)
DIM = 40


OTHERS = [
    ("conformer", "convolutional"),
    ("conformer", "window"),
    ("transformer", "window"),
    ("branchformer", "window"),
    ("e_branchformer", "window"),
]


@pytest.fixture(params=[*PAIRS, *OTHERS], ids="-".join)
def encoder(request, make_encoder):
    kind, attention = request.param
    if attention == "window":
        return scramble(make_encoder(kind, attention_window=6))
    if attention != "convolutional":
        return scramble(make_encoder(kind, attention_type=attention))
    torch.manual_seed(0)
    conv = ConvolutionalInput(input_dim=160, d_model=16, channels=(8, 4))
    return scramble(make_encoder(kind, input_dim=160, input_module=conv))


def scramble(encoder):
    """Away from the initial weights: a Branchformer's convolutions start at zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in encoder.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.1 * noise)
    return encoder


def utterances(dim, lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, dim, generator=generator) for length in lengths]


def padded(signals, fill=0.0, extra=0):
    longest = max(map(len, signals)) + extra
    batch = torch.full((len(signals), longest, signals[0].shape[1]), fill)
    for row, signal in zip(batch, signals, strict=True):
        row[: len(signal)] = signal
    return batch, torch.tensor([len(s) for s in signals])


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_utterance_does_not_depend_on_its_batch(encoder):
    signals = utterances(encoder.input_dim)
    together = encoder(*padded(signals))
    for signal, mine in zip(signals, together, strict=True):
        alone = encoder(signal.unsqueeze(0), torch.tensor([len(signal)]))
        close(mine[: len(signal)], alone[0])


@torch.no_grad()
def test_junk_in_the_padding_changes_nothing(encoder):
    signals = utterances(encoder.input_dim)
    clean, junk = encoder(*padded(signals)), encoder(*padded(signals, 1000.0))
    for length, one, other in zip(LENGTHS, clean, junk, strict=True):
        close(one[:length], other[:length])


@torch.no_grad()
def test_more_padding_changes_nothing(encoder):
    signals = utterances(encoder.input_dim)
    short, long = encoder(*padded(signals)), encoder(*padded(signals, extra=23))
    for length, one, other in zip(LENGTHS, short, long, strict=True):
        close(one[:length], other[:length])


@torch.no_grad()
def test_every_hidden_state_ignores_padding(encoder):
    signals = utterances(encoder.input_dim)
    clean = encoder.hidden_states(*padded(signals))
    junk = encoder.hidden_states(*padded(signals, -50.0, extra=5))
    for one, other in zip(clean, junk, strict=True):
        for b, length in enumerate(LENGTHS):
            close(one[b, :length], other[b, :length])


@pytest.mark.parametrize("length", [1, 2, 3])
@torch.no_grad()
def test_very_short_utterances_work_alone(encoder, length):
    frames = torch.randn(1, length, encoder.input_dim)
    out = encoder(frames, torch.tensor([length]))
    assert out.shape == (1, length, encoder.output_dim)
    assert out.isfinite().all()


def test_gradients_are_finite_with_very_short_utterances(encoder):
    frames, lengths = padded(utterances(encoder.input_dim))
    out = encoder.train()(frames, lengths)
    out[torch.arange(out.shape[1]) < lengths.unsqueeze(1)].sin().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_padding_receives_no_gradient(encoder):
    frames, lengths = padded(utterances(encoder.input_dim))
    frames.requires_grad_()
    valid = torch.arange(frames.shape[1]) < lengths.unsqueeze(1)
    encoder(frames, lengths)[valid].sin().sum().backward()
    assert frames.grad[~valid].abs().max() < 1e-6


@torch.no_grad()
def test_leaving_after_layer_k_gives_hidden_state_k(encoder):
    batch = padded(utterances(encoder.input_dim))
    states = encoder.hidden_states(*batch)
    assert len(states) == encoder.num_layers + 1
    for k in range(1, encoder.num_layers + 1):
        assert torch.equal(encoder(*batch, num_layers=k), states[k])


@torch.no_grad()
def test_leaving_after_layer_k_calls_k_layers(encoder):
    calls = []
    for index, layer in enumerate(encoder.layers):
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))
    batch = padded(utterances(encoder.input_dim))
    for k in (1, 2, None):
        calls.clear()
        encoder(*batch, num_layers=k)
        assert calls == list(range(k or encoder.num_layers))


@torch.no_grad()
def test_the_output_is_the_normalized_last_layer(encoder):
    batch = padded(utterances(encoder.input_dim))
    last = encoder.hidden_states(*batch)[-1]
    assert torch.equal(encoder(*batch), encoder.norm(last))


@torch.no_grad()
def test_hidden_state_zero_is_the_input_before_any_layer(make_encoder):
    encoder = make_encoder("transformer")
    frames, lengths = padded(utterances(DIM))
    first = encoder.hidden_states(frames, lengths)[0]
    assert torch.equal(first, encoder.input.linear(frames))


def test_every_parameter_is_used(encoder):
    frames, lengths = padded(utterances(encoder.input_dim))
    encoder(frames, lengths).sin().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_order_matters_to_every_encoder(encoder):
    """Not tested by reversal: SpeechBrain's RelPosEncXL is blind to direction."""
    frames, lengths = torch.randn(1, 12, encoder.input_dim), torch.tensor([12])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = encoder(frames[:, order], lengths)
    assert (encoder(frames, lengths)[:, order] - shuffled).abs().max() > 1e-3


def test_dropout_acts_in_training_only(make_encoder):
    encoder, batch = make_encoder(dropout=0.5), padded(utterances(DIM))
    assert torch.equal(encoder(*batch), encoder(*batch))
    encoder.train()
    assert not torch.equal(encoder(*batch), encoder(*batch))


@torch.no_grad()
def test_a_state_travels_to_an_encoder_of_another_seed(make_encoder):
    first, second = make_encoder(seed=0), make_encoder(seed=1)
    batch = padded(utterances(DIM))
    assert not torch.equal(first(*batch), second(*batch))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*batch), second(*batch))


def test_the_convolutional_input_computes_what_speechbrains_blocks_do():
    torch.manual_seed(0)
    conv = ConvolutionalInput(input_dim=160, d_model=8, channels=(8, 4))
    frames = torch.randn(2, 20, 160)

    def gradients(states):
        conv.zero_grad()
        states.sin().sum().backward()
        return [states, *(p.grad for p in conv.parameters())]

    plain = frames.unflatten(2, (4, 40)).flatten(1, 2)
    for block in conv.convolutions.values():
        plain = block(plain)
    expected = gradients(conv.linear(plain.flatten(2)))
    found = gradients(conv(frames, torch.ones(2, 20, dtype=torch.bool)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_a_hidden_step_of_the_convolution_hides_all_of_its_frames():
    torch.manual_seed(0)
    conv = ConvolutionalInput(input_dim=160, d_model=8, channels=(8, 4)).eval()
    frames, valid = torch.randn(1, 20, 160), torch.ones(1, 20, dtype=torch.bool)
    changed = frames.clone()
    changed[:, 10] += 1
    moved = (conv(frames, valid) - conv(changed, valid)).abs().amax((0, 2)) > 0
    assert moved[10]
    assert not moved[:9].any()
    assert not moved[12:].any()


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("squeezeformer", {}, "squeezeformer"),
        ("conformer", {"attention_type": "hypermixing"}, "hypermixing.*conformer"),
        ("conformer", {"num_layers": 0}, "num_layers"),
        ("conformer", {"d_model": 15, "nhead": 2}, "d_model 15.*nhead 2"),
        ("conformer", {"kernel_size": 4}, "kernel_size must be odd"),
        ("conformer", {"attention_window": 1}, "attention_window must be .* from 2"),
        ("transformer", {"attention_window": 6.0}, "whole number from 2, got 6.0"),
        (
            "conformer",
            {"attention_window": 8, "attention_type": "RelPosMHAXL"},
            "attention_window needs .* not RelPosMHAXL",
        ),
        ("block_conformer", {"attention_window": 0}, "attention_window .* got 0"),
        ("conformer", {"d_model": 6}, "d_model / nhead must be even, got 3"),
        ("e_branchformer", {"d_ffn": 33}, "d_ffn .* e_branchformer.* even, got 33"),
        ("e_branchformer", {"attention_type": "regularMHA"}, "regularMHA.*e_branch"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    make_encoder, kind, options, words
):
    with pytest.raises(ValueError, match=words):
        make_encoder(kind, **options)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["conformer", "transformer"])
def test_a_window_changes_the_sight_and_not_the_weights(make_encoder, kind):
    full, windowed = make_encoder(kind), make_encoder(kind, attention_window=6)
    for (name, one), (same, other) in zip(
        full.state_dict().items(), windowed.state_dict().items(), strict=True
    ):
        assert name == same
        assert torch.equal(one, other)
    signal = torch.randn(1, 40, DIM, generator=torch.Generator().manual_seed(0))
    changed = signal.clone()
    changed[0, 39] += 1
    moved = windowed(signal, torch.tensor([40])) - windowed(changed, torch.tensor([40]))
    reach = 3 + (2 if kind == "conformer" else 0)  # the convolution's kernel is 5
    untouched = moved[0, : 39 - 2 * reach]
    assert untouched.abs().max() == 0
    assert moved[0, 39 - 2 * reach :].abs().amax(1).min() > 0


def test_a_convolution_over_a_wrong_stack_is_refused():
    with pytest.raises(ValueError, match="stack: 4"):
        ConvolutionalInput(input_dim=150, d_model=8)


@pytest.mark.parametrize("before", [0.1, 0])
@pytest.mark.parametrize("attention", ["RoPEMHA", "RelPosMHAXL", "regularMHA"])
def test_set_dropout_equals_building_with_it(attention, before):
    def dropouts(encoder):
        found = {}
        for name, module in encoder.named_modules():
            value = getattr(module, "p", getattr(module, "dropout", None))
            if isinstance(value, float):
                found[name] = value
        return found

    settings = dict(input_dim=8, num_layers=2, d_model=8, nhead=2, d_ffn=16)
    settings |= dict(kind="conformer", attention_type=attention)
    changed = SpeechBrainEncoder(**settings, dropout=before)
    changed.set_dropout(0.3)
    built = dropouts(SpeechBrainEncoder(**settings, dropout=0.3))
    assert dropouts(changed) == built
    assert set(built.values()) == {0.3}


def test_sinusoids_go_on_beyond_those_that_speechbrain_stores(make_encoder):
    encoder = make_encoder("transformer", attention_type="regularMHA")
    stored = encoder.absolute_positions.pe
    signal = torch.randn(1, stored.shape[1] + 100, DIM)
    encoder.layers = torch.nn.ModuleList()
    states = encoder.hidden_states(signal, torch.tensor([signal.shape[1]]))[0]
    added = states - encoder.input(signal, torch.ones(signal.shape[:2]).bool())
    torch.testing.assert_close(added[:, : stored.shape[1]], stored, atol=1e-5, rtol=0)
    position, rate = stored.shape[1] + 50, 10000 ** (-2 / encoder.output_dim)
    expected = torch.tensor(math.sin(position * rate))
    torch.testing.assert_close(added[0, position, 2], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_long_sinusoids_have_the_encoder_s_type(dtype, make_encoder):
    encoder = make_encoder("transformer", attention_type="regularMHA").to(dtype)
    frames = torch.randn(1, 2510, DIM, dtype=dtype)
    assert encoder(frames, torch.tensor([2510])).dtype == dtype


def test_outputs_of_earlier_layers_do_not_stay_in_memory(make_encoder):
    encoder, alive = make_encoder(num_layers=6), []

    def count(module, inputs, output):
        alive.append(weakref.ref(output[0]))
        held.append(sum(one() is not None for one in alive))

    held = []
    for layer in encoder.layers:
        layer.register_forward_hook(count)
    with torch.no_grad():
        encoder(torch.randn(1, 9, DIM), torch.tensor([9]))
    assert len(held) == 6 and max(held) <= 2


@pytest.mark.parametrize("every", [True, 2])
@pytest.mark.parametrize("kind", ATTENTION)
def test_activation_checkpointing_gives_the_same_gradients(kind, every, make_encoder):
    frames, lengths = padded(utterances(DIM))
    attention = ATTENTION[kind][0]
    plain, again = (
        make_encoder(
            kind, attention_type=attention, dropout=0.2, activation_checkpointing=value
        ).train()
        for value in (False, every)
    )
    for encoder in (plain, again):
        torch.manual_seed(0)
        encoder(frames, lengths).sin().sum().backward()
    expected = [p.grad for p in plain.parameters()]
    torch.testing.assert_close([p.grad for p in again.parameters()], expected)


@pytest.mark.parametrize(
    ("every", "expected"),
    [(False, [1, 1, 1]), (0, [1, 1, 1]), (True, [2, 2, 2]), (2, [2, 1, 2])],
)
def test_activation_checkpointing_runs_every_nth_layer_twice(
    make_encoder, every, expected
):
    encoder = make_encoder(num_layers=3, activation_checkpointing=every).train()
    calls = [0, 0, 0]
    for number, layer in enumerate(encoder.layers):
        layer.register_forward_pre_hook(partial(counted, calls, number))
    batch = padded(utterances(DIM))
    encoder(*batch).sum().backward()
    assert calls == expected
    encoder.eval()(*batch).sum().backward()
    assert calls == [count + 1 for count in expected]


def counted(calls, number, *_):
    calls[number] += 1


@pytest.mark.parametrize("attention", [{}, {"attention_type": "RelPosMHAXL"}])
@pytest.mark.slow
def test_a_compiled_encoder_has_one_graph_for_all_lengths(make_encoder, attention):
    """One for layers 1 to K, one for 1 to k; a 9th would not be compiled at all."""
    encoder = make_encoder(**attention)
    plain = make_encoder(**attention)
    _get_precomputed_values.memo.clear()
    torch._dynamo.reset()
    counters.clear()
    encoder.compile(dynamic=True, backend="eager", fullgraph=True)
    for time in (30, 70, 140, 260):
        frames, lengths = torch.randn(2, time, 40), torch.tensor([time, time // 2])
        for num_layers in (None, 1):
            found = encoder(frames, lengths, num_layers=num_layers)
            torch.testing.assert_close(found, plain(frames, lengths, num_layers))
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
def test_layers_that_are_computed_again_can_be_compiled(make_encoder):
    frames, lengths = torch.randn(2, 30, 40), torch.tensor([30, 15])
    gradients = []
    for backend in (None, "aot_eager"):
        encoder = make_encoder(activation_checkpointing=True).train()
        if backend is not None:
            torch._dynamo.reset()
            encoder.compile(dynamic=True, backend=backend)
        encoder(frames, lengths).square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)
