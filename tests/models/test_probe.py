"""The frozen probe: its mixture of layers, and an encoder that does not move."""

import json
from pathlib import Path

import pytest
import torch

from speechbrain_birq.brains.ctc import CTCBrain
from speechbrain_birq.brains.probe import ProbeBrain
from speechbrain_birq.metrics.curves import plot_layer_weights
from speechbrain_birq.models.encoders.chunking import make_chunk
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.probe import LayerMixture, ProbeModel


@pytest.fixture
def probe(make_encoder):
    torch.manual_seed(0)
    encoder = make_encoder(num_layers=3, dropout=0.5)
    return ProbeModel(
        frontend=FrontEnd(n_mels=20, stack=2), encoder=encoder, num_tokens=7
    )


@pytest.fixture
def wavs():
    return 0.1 * torch.randn(2, 4800), torch.ones(2)


def test_the_mixture_is_a_weighted_sum_of_normalized_layers():
    torch.manual_seed(0)
    mixture = LayerMixture(num_states=3, dim=4, num_tokens=5).double()
    mixture.scores.data = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    states = 3 + 10 * torch.randn(3, 1, 2, 4, dtype=torch.float64)
    scores = mixture.scores.exp()
    for time in range(2):
        mixed = torch.zeros(4, dtype=torch.float64)
        for layer in range(3):
            frame = states[layer, 0, time]
            spread = (((frame - frame.mean()) ** 2).mean() + 1e-5).sqrt()
            mixed += scores[layer] / scores.sum() * (frame - frame.mean()) / spread
        expected = mixture.linear.weight @ mixed + mixture.linear.bias
        assert torch.allclose(mixture(states)[0, time], expected, atol=1e-12)


def test_the_mixture_hears_the_input_projection_and_every_layer(probe, wavs):
    frames = probe.frontend(*wavs)
    states = probe.encode(*frames)
    for heard, expected in zip(
        states, probe.encoder.hidden_states(*frames), strict=True
    ):
        assert torch.equal(heard, expected)


def test_the_encoder_gets_no_gradient_and_no_dropout(probe, wavs):
    probe.train()
    probe.freeze_encoder(False)  # what the brain says when freeze_steps are over
    first, second = (probe(*wavs).log_probs for _ in range(2))
    assert torch.equal(first, second)
    first.sum().backward()
    assert all(p.grad is None for p in probe.encoder.parameters())
    assert probe.head.scores.grad is not None


def test_the_encoder_stays_frozen_whatever_is_thawed(probe):
    for frozen in (True, False):
        probe.freeze_encoder(frozen)
        assert probe.frozen is frozen
        for mode in (True, False):
            probe.train(mode)
            assert probe.head.training is mode
            assert not any(module.training for module in probe.encoder.modules())


@torch.no_grad()
def test_chunks_reach_every_layer(make_encoder):
    encoder = make_encoder(num_layers=3)
    frontend = FrontEnd(n_mels=20, stack=2, normalize="global")
    frontend.estimate([torch.randn(8000)], seconds=1)
    probe = ProbeModel(frontend=frontend, encoder=encoder, num_tokens=7)
    frames, chunk = frontend(0.1 * torch.randn(1, 4800), torch.ones(1)), make_chunk(4)
    states = probe.encode(*frames, chunk)
    for k in (1, 2, 3):
        expected = encoder(*frames, num_layers=k, chunk=chunk)
        assert torch.equal(states[k], expected)
    assert not torch.equal(states[3], probe.encode(*frames)[3])


def test_training_hears_the_chunks_that_the_file_asks_for(load):
    settings = dict(num_layers=1, d_model=16, nhead=2, d_ffn=32, normalize="global")
    chunks = dict(chunk_prob=1.0, chunk_min=2, chunk_max=2, left_chunks_prob=0.0)
    hparams = load("probe_tiny.yaml", **settings, **chunks).hparams
    frontend, encoder = hparams["frontend"], hparams["encoder"]
    frontend.estimate([torch.randn(8000)], seconds=1)
    probe = hparams["model"](frontend=frontend, encoder=encoder, num_tokens=7)
    probe.dropout.p = 0.0
    wavs = 0.1 * torch.randn(1, 4800), torch.ones(1)
    heard = probe.train()(*wavs).log_probs
    probe.eval()
    assert torch.equal(heard, probe(*wavs, chunk=make_chunk(2)).log_probs)
    assert not torch.equal(heard, probe(*wavs).log_probs)


def test_the_weights_of_the_layers_are_learned(probe, wavs):
    log_probs, _ = probe(*wavs)
    (-log_probs[..., 1].sum()).backward()
    assert probe.head.scores.grad.abs().min() > 0


def test_only_the_mixture_is_optimized(probe):
    brain = ProbeBrain.__new__(ProbeBrain)
    brain.modules = torch.nn.ModuleDict({"model": probe})
    brain.opt_class = lambda parameters: torch.optim.Adam(parameters, lr=0.1)
    brain.checkpointer = None
    brain.init_optimizers()
    (group,) = brain.optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in probe.head.parameters()}


def test_the_weights_are_in_the_results(probe, tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text('{"steps": 3}')
    monkeypatch.setattr(CTCBrain, "score", lambda *args: {"cer": 1.0})
    brain = ProbeBrain.__new__(ProbeBrain)
    brain.modules = torch.nn.ModuleDict({"model": probe})
    brain.hparams = type("Settings", (), {"output_folder": tmp_path})
    assert brain.score("test", None) == {"cer": 1.0}
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == {"steps": 3, "layer_weights": [0.25] * 4}
    assert (tmp_path / "layers.png").stat().st_size > 0


def test_the_picture_has_a_bar_for_every_layer(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.bar", lambda self, names, weights: drawn.append(names)
    )
    monkeypatch.setattr("matplotlib.axes.Axes.legend", lambda self: None)
    plot_layer_weights([0.2, 0.3, 0.5], Path(tmp_path) / "layers.png")
    assert drawn == [["input", "1", "2"]]
