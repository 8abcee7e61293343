"""SpeechEncoder and Recogniser are modules: they move, copy, round and learn."""

import copy
import inspect
import pickle
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from small_corpus import tone
from speechbrain.core import Brain
from speechbrain.nnet.attention import _get_precomputed_values
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import load_architecture
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.diagnostics.label_sets import LabelSets
from speechbrain_birq.diagnostics.spoken import AlignedTokens
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser, SpeechEncoder, StreamingRecogniser

HALF = [torch.float16, torch.bfloat16]
KINDS = [SpeechEncoder, Recogniser]


def signal(seconds, seed=0):
    return torch.from_numpy(tone(seconds, 16000, seed)).float()


@pytest.fixture
def batch():
    """Three tones padded, their relative lengths, and the tones alone."""
    tones = [signal(s, n) for n, s in enumerate((1.0, 0.61, 1.3))]
    padded = torch.nn.utils.rnn.pad_sequence(tones, batch_first=True)
    return padded, torch.tensor([len(t) for t in tones]) / padded.shape[1], tones


def close(first, second, atol=1e-5):
    torch.testing.assert_close(first.float(), second.float(), rtol=0, atol=atol)


# What forward takes and returns.


@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_a_batch_gives_the_features_of_each_recording_and_lengths(
    run_folder, batch, layer
):
    encoder = SpeechEncoder(run_folder)
    features, lengths = encoder(*batch[:2], layer=layer)
    for row, length, one in zip(features, lengths.tolist(), batch[2], strict=True):
        alone = encoder.features(one, layer)
        assert len(alone) == length == encoder.frontend.num_frames(len(one))
        close(row[:length], alone)
        assert not row[length:].any()


@pytest.mark.parametrize("layer", ["all", [2, 0], (1,)])
def test_several_layers_come_first_in_the_order_that_was_asked_for(
    run_folder, batch, layer
):
    encoder = SpeechEncoder(run_folder)
    features, lengths = encoder(*batch[:2], layer=layer)
    numbers = range(3) if layer == "all" else layer
    assert features.shape == (len(numbers), 3, max(lengths), 16)
    alone = encoder.features(batch[2][2], layer)
    for place, number in enumerate(numbers):
        assert torch.equal(features[place], encoder(*batch[:2], layer=number).features)
        assert torch.equal(alone[place], encoder.features(batch[2][2], number))


def test_one_waveform_is_a_batch_of_one(run_folder):
    encoder = SpeechEncoder(run_folder)
    features, lengths = encoder(signal(1.0))
    assert features.shape == (1, lengths.item(), encoder.output_dim)
    assert torch.equal(features, encoder(signal(1.0)[None], torch.ones(1)).features)


def test_layers_above_the_one_that_is_asked_for_do_not_run(run_folder):
    encoder, calls = SpeechEncoder(run_folder), []
    for number, module in enumerate(encoder.encoder.layers, 1):
        module.register_forward_hook(lambda *_, number=number: calls.append(number))
    encoder.features(signal(1.0), 1)
    assert calls == [1]


@pytest.mark.parametrize(
    ("layer", "words"),
    [(3, "no layer 3"), ([0, -1], "no layer -1"), ([], "0 to 2"), ("al", "'al'")],
)
def test_layers_that_are_not_there_are_refused(run_folder, layer, words):
    encoder = SpeechEncoder(run_folder)
    for call in (encoder, encoder.features):
        with pytest.raises(BadInput, match=words):
            call(signal(1.0), layer=layer)


def test_a_recogniser_scores_a_batch_as_it_scores_each_recording(run_folder, batch):
    recogniser = Recogniser(run_folder)
    log_probs, lengths = recogniser(*batch[:2])
    for row, length, one in zip(log_probs, lengths.tolist(), batch[2], strict=True):
        alone = recogniser.log_probs(one)
        assert alone.lengths.tolist() == [length]
        close(row[:length], alone.log_probs[0])
        close(alone.log_probs.exp().sum(-1), torch.ones(1, length))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (torch.zeros(2, 16000), "padded batch"),
        (torch.zeros(16000, dtype=torch.int16), "int16"),
        (torch.full((16000,), torch.nan), "16000 of its samples are not finite"),
        (torch.zeros(0), "shorter than one frame"),
        (np.zeros(16000), "not ndarray: give torch.as_tensor"),
        (None, "not NoneType"),
    ],
)
def test_samples_that_are_no_recording_are_refused(run_folder, samples, words):
    with pytest.raises(BadInput, match=words):
        SpeechEncoder(run_folder).features(samples)


@pytest.mark.parametrize(
    "kind",
    [*KINDS, StreamingRecogniser, AudioReader, LabelSets, AlignedTokens],
)
def test_only_what_is_read_or_used_is_given_without_its_name(kind):
    first, *others = inspect.signature(kind).parameters.values()
    assert first.kind is first.POSITIONAL_OR_KEYWORD
    assert {p.kind for p in others} <= {first.KEYWORD_ONLY, first.VAR_KEYWORD}


# A module like others.


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_that_of_the_parts_and_loads(run_folder, kind):
    run = kind(run_folder)
    state = run.state_dict()
    parts = {"frontend", "encoder"} | ({"head"} if kind is Recogniser else set())
    assert {key.partition(".")[0] for key in state} <= parts
    other = kind(run_folder)
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(state)
    assert torch.equal(other.features(signal(1.0)), run.features(signal(1.0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))]
)
def test_a_copy_works_and_shares_nothing(run_folder, tmp_path, kind, copied):
    run = kind(run_folder)
    before = {name: value.clone() for name, value in run.state_dict().items()}
    other = copied(run)
    assert torch.equal(other.features(signal(1.0)), run.features(signal(1.0)))
    for parameter in other.parameters():
        parameter.data.zero_()
    for name, value in run.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(BadInput, match="no audio file"):
        other.read(tmp_path / "none.wav")


@pytest.mark.parametrize("normalize", ["utterance", "global"])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_the_encoders_and_not_the_front_ends(
    make_run_folder, dtype, normalize
):
    run = Recogniser(make_run_folder(normalize))
    exact, scores = run.features(signal(1.0)), run.log_probs(signal(1.0)).log_probs
    buffers = [buffer.clone() for buffer in run.frontend.buffers()]
    frames = run.frontend(signal(1.0)[None], torch.ones(1)).frames
    run.to(dtype)
    assert run.dtype == dtype
    for before, after in zip(buffers, run.frontend.buffers(), strict=True):
        assert torch.equal(before, after)
    assert torch.equal(run.frontend(signal(1.0)[None], torch.ones(1)).frames, frames)
    features = run.features(signal(1.0))
    assert features.dtype == dtype
    assert 0 < (features.float() - exact).abs().max() < 0.1
    rounded = run.log_probs(signal(1.0)).log_probs
    assert rounded.dtype == torch.float32
    close(rounded, scores, atol=0.1)


@contextmanager
def fake_gpu(run):
    """A run as ``run.cuda()`` gives it, on a GPU that is not there."""
    _get_precomputed_values.memo.clear()  # rotations of other tests
    with FakeTensorMode():
        for module in run.modules():
            for store in (module._parameters, module._buffers):
                for name, value in store.items():
                    fake = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                    if store is module._parameters:
                        fake = torch.nn.Parameter(fake, value.requires_grad)
                    store[name] = fake
        yield
    _get_precomputed_values.memo.clear()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_on_a_gpu_it_computes_there_and_features_come_back(run_folder, kind):
    run = kind(run_folder)
    with fake_gpu(run):
        assert run.device.type == "cuda"
        for tensor in run(torch.empty(2, 16000, device="cuda")):
            assert tensor.device.type == "cuda"
        encoder = run._batch_encoder(run._layers("all"))
        states = encoder._alone("a.wav", torch.empty(16000))  # what was read
        assert states.device.type == "cpu" and states.shape == (25, 3, 16)


@pytest.mark.parametrize("attention", ["RelPosMHAXL", "regularMHA"])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_other_attention_in_half_precision(make_run_folder, dtype, attention):
    folder = make_run_folder()
    path = folder / "architecture.yaml"
    text = path.read_text().replace("kernel", f"attention_type: {attention}\n  kernel")
    path.write_text(text)
    model = torch.nn.ModuleDict(load_architecture(folder))
    shutil.rmtree(folder / "save")
    AtomicCheckpointer(folder / "save", {"model": model}).save_checkpoint()
    encoder = SpeechEncoder(folder)
    exact = encoder.features(signal(1.0))
    close(encoder.to(dtype).features(signal(1.0)), exact, atol=0.1)


# Training and evaluation.


def test_frozen_is_the_default_and_nothing_learns(run_folder):
    encoder = SpeechEncoder(run_folder)
    encoder.train()
    assert encoder.training
    assert not any(module.training for module in encoder.encoder.modules())
    assert not encoder(signal(1.0)).features.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_gradients_flow_to_every_parameter_if_they_are_asked_for(run_folder):
    encoder = SpeechEncoder(run_folder, freeze=False)
    encoder(signal(1.0)).features.square().sum().backward()
    assert all(p.grad is not None for p in encoder.encoder.parameters())


def test_features_are_those_of_evaluation_in_training_too(run_folder):
    encoder = SpeechEncoder(run_folder, freeze=False)
    expected = encoder.features(signal(1.0))
    encoder.train()
    found = encoder.features(signal(1.0))
    assert torch.equal(found, expected) and not found.requires_grad
    assert encoder.training and encoder.encoder.training
    assert not torch.equal(encoder(signal(1.0)).features[0], expected)  # dropout


class Classifier(Brain):
    """A linear layer on the mean of the features."""

    def compute_forward(self, batch, stage):
        features, lengths = self.modules.speech(*batch[:2])
        return self.modules.top(features.sum(1) / lengths[:, None])

    def compute_objectives(self, predictions, batch, stage):
        return torch.nn.functional.cross_entropy(predictions, torch.arange(3))


@pytest.mark.parametrize("freeze", [True, False])
def test_in_a_brain_it_learns_unless_it_is_frozen(run_folder, batch, freeze):
    speech = SpeechEncoder(run_folder, freeze=freeze)
    before = copy.deepcopy(speech.state_dict())
    modules = {"speech": speech, "top": torch.nn.Linear(16, 3)}
    brain = Classifier(
        modules,
        opt_class=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        run_opts={"device": "cpu", "noprogressbar": True},
    )
    brain.fit(range(2), DataLoader([batch[:2]], batch_size=None))
    optimized = {
        id(p) for group in brain.optimizer.param_groups for p in group["params"]
    }
    assert {id(p) for p in speech.encoder.parameters()} <= optimized
    moved = [
        name
        for name, value in speech.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    assert bool(moved) != freeze
    assert all(name.startswith("encoder.") for name in moved)


def test_a_stream_is_computed_in_the_precision_of_the_module(make_run_folder):
    run = StreamingRecogniser(make_run_folder("global"), chunk=4, left=1)
    exact, stream = run(signal(1.0), chunk=run.chunk), run.to(torch.bfloat16).open()
    parts = [stream.log_probs(piece) for piece in signal(1.0).split(3000)]
    found = torch.cat([*parts, stream.last_log_probs()])
    assert found.dtype == torch.float32
    close(found, exact.log_probs[0], atol=0.1)
