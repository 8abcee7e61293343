"""The recogniser: shapes, SpecAugment, and the one front end of every stage."""

import pytest
import torch
from speechbrain.augment.freq_domain import SpectrogramDrop

from speechbrain_birq.checkpoints.run_folder import load_architecture, save_architecture
from speechbrain_birq.models.ctc import CTCModel, SpecAugment
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.probe import ProbeModel

TOKENS = 7


def drop(dim, low=3, high=5, count=1):
    return SpectrogramDrop(
        drop_length_low=low,
        drop_length_high=high,
        drop_count_low=count,
        drop_count_high=count,
        replace="zeros",
        dim=dim,
    )


@pytest.fixture
def make_ctc_model(make_encoder):
    def make(**keywords):
        frontend = FrontEnd(n_mels=20, stack=2)
        torch.manual_seed(0)
        return CTCModel(
            frontend=frontend, encoder=make_encoder(), num_tokens=TOKENS, **keywords
        )

    return make


@pytest.fixture
def wavs():
    wavs = 0.1 * torch.randn(2, 4800, generator=torch.Generator().manual_seed(1))
    wavs[1, 3200:] = 0
    return wavs, torch.tensor([1.0, 2 / 3])


def test_log_probabilities_have_frames_and_tokens(make_ctc_model, wavs):
    log_probs, lengths = make_ctc_model()(*wavs)
    assert log_probs.shape == (2, 15, TOKENS)
    assert lengths.tolist() == [15, 10]
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(2, 15))


@pytest.mark.parametrize("model", [CTCModel, ProbeModel])
def test_an_encoder_that_lacks_something_is_refused_by_name(model):
    words = "LSTM lacks output_dim, hidden_states, set_dropout: see"
    with pytest.raises(ValueError, match=words):
        model(frontend=FrontEnd(), encoder=torch.nn.LSTM(8, 8), num_tokens=TOKENS)


def test_an_utterance_is_recognised_the_same_alone_and_in_a_batch(make_ctc_model, wavs):
    model = make_ctc_model(
        augment=SpecAugment(stack=2, time_drop=drop(1), freq_drop=drop(2))
    )
    model.eval()
    together, _ = model(*wavs)
    alone, _ = model(wavs[0][1:, :3200], torch.ones(1))
    assert (together[1, :10] - alone[0]).abs().max() < 1e-5


def test_log_probabilities_are_float32_under_bfloat16(make_ctc_model, wavs):
    with torch.autocast("cpu", torch.bfloat16):
        log_probs, _ = make_ctc_model()(*wavs)
    assert log_probs.dtype == torch.float32


def test_augmentation_is_for_training_only(make_ctc_model, wavs):
    model = make_ctc_model(
        augment=SpecAugment(stack=2, time_drop=drop(1), freq_drop=drop(2))
    )
    plain = make_ctc_model()
    model.eval(), plain.eval()
    assert torch.equal(model(*wavs).log_probs, plain(*wavs).log_probs)
    model.train()
    different = [not torch.equal(*(model(*wavs).log_probs for _ in range(2)))]
    assert any(different)


def test_augmentation_has_no_parameters_and_keeps_the_shape():
    augment = SpecAugment(stack=4, time_drop=drop(1), freq_drop=drop(2))
    frames = torch.ones(3, 9, 80)
    assert augment(frames).shape == frames.shape
    assert not list(augment.parameters())


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_a_dropped_mel_channel_is_dropped_in_all_stacked_frames(stack):
    torch.manual_seed(0)
    identity = torch.nn.Identity()
    augment = SpecAugment(stack=stack, time_drop=identity, freq_drop=drop(2))
    out = augment(torch.ones(2, 6, stack * 20)).reshape(2, 6, stack, 20)
    dropped = out == 0
    for utterance in dropped:
        assert 3 <= utterance[0, 0].sum() <= 5
        assert (utterance == utterance[0, 0]).all()


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_time_is_dropped_in_unstacked_frames_over_all_channels(stack):
    torch.manual_seed(0)
    identity = torch.nn.Identity()
    augment = SpecAugment(stack=stack, time_drop=drop(1), freq_drop=identity)
    out = augment(torch.ones(2, 8, stack * 20)).reshape(2, 8 * stack, 20)
    for utterance in out == 0:
        rows = utterance.all(-1)
        assert torch.equal(rows, utterance.any(-1))
        where = rows.nonzero().flatten()
        assert 3 <= len(where) <= 5
        assert where[-1] - where[0] == len(where) - 1


def test_gradient_reaches_the_encoder_unless_it_is_frozen(make_ctc_model, wavs):
    model = make_ctc_model().train()
    for frozen in (True, False):
        model.freeze_encoder(frozen)
        model.zero_grad()
        model(*wavs).log_probs.sum().backward()
        reached = [p.grad is not None for p in model.encoder.parameters()]
        assert set(reached) == {not frozen}
        assert model.encoder.training is not frozen
    assert model.head.weight.grad is not None


def test_the_heads_dropout_acts_in_training_only(make_ctc_model, wavs):
    model = make_ctc_model(dropout=0.5)  # the encoder has none
    model.train()
    assert not torch.equal(model(*wavs).log_probs, model(*wavs).log_probs)
    model.eval()
    assert torch.equal(model(*wavs).log_probs, model(*wavs).log_probs)


def test_the_heads_dropout_acts_before_the_linear_layer(make_ctc_model, wavs):
    """All states are dropped: the bias alone is left."""
    model = make_ctc_model(dropout=1.0).train()
    expected = model.head.bias.log_softmax(-1).expand(2, 15, TOKENS)
    torch.testing.assert_close(model(*wavs).log_probs, expected)


# One front end in every stage.

ARCHITECTURE = """
frontend: !new:speechbrain_birq.models.frontend.FrontEnd
    n_mels: 20
    win_length: 20
    hop_length: 8
    stack: 3
encoder: !new:speechbrain_birq.models.encoders.encoder.SpeechBrainEncoder
    kind: conformer
    input_dim: 60
    num_layers: 1
    d_model: 16
    nhead: 2
    d_ffn: 32
    kernel_size: 5
seed: 3
"""


def test_features_of_fine_tuning_are_those_of_pretraining(make_model, tmp_path, wavs):
    save_architecture(ARCHITECTURE, tmp_path / "architecture.yaml")
    parts = load_architecture(tmp_path)
    assert parts.keys() == {"frontend", "encoder"}
    pretraining = FrontEnd(n_mels=20, win_length=20, hop_length=8, stack=3)
    model = CTCModel(**parts, num_tokens=TOKENS)
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    for mode in (True, False):
        model.train(mode)(*wavs)
    expected = pretraining.train()(*wavs)
    assert expected.frames.shape == (2, 12, 60)
    for frames, lengths in seen:
        assert torch.equal(frames, expected.frames)
        assert torch.equal(lengths, expected.lengths)


def test_front_ends_have_no_state_that_could_differ(make_model, wavs):
    frontend = FrontEnd(n_mels=20)
    first = frontend.train()(*wavs).frames
    frontend(10 * torch.randn(2, 4800), torch.ones(2))
    assert torch.equal(frontend.eval()(*wavs).frames, first)
    assert not list(frontend.parameters())
