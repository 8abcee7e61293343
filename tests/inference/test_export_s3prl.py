"""An exported run as an upstream of s3prl."""

import sys
import types

import pytest
import torch

from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import SpeechEncoder, UpstreamExpert, export_run


@pytest.fixture
def exported(pretrained_folder, tmp_path):
    export_run(pretrained_folder, tmp_path / "upstream", formats=["s3prl"])
    return tmp_path / "upstream"


@pytest.fixture
def signals(waveforms):
    wavs, wav_lens = waveforms
    samples = torch.round(wav_lens * wavs.shape[1]).long().tolist()
    return [wav[:length] for wav, length in zip(wavs, samples, strict=True)]


def hub_load(folder, **options):
    """Load as torch.hub does, which s3prl's documents name."""
    return torch.hub.load(str(folder), "birq", source="local", **options).eval()


@torch.no_grad()
def assert_are_the_runs(states, run_folder, signals):
    """Each utterance's states are those that it has alone."""
    run = SpeechEncoder(run_folder)
    for row, signal in enumerate(signals):
        frames, lengths = run.frontend(signal.unsqueeze(0), torch.ones(1))
        expected = run.encoder.hidden_states(frames, lengths)
        for mine, right in zip(states, expected, strict=True):
            valid = mine[row, : frames.shape[1]]
            torch.testing.assert_close(valid, right[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_states_of_all_layers(pretrained_folder, exported, signals):
    upstream = hub_load(exported)
    found = upstream(signals)
    assert len(found["hidden_states"]) == 3
    assert found["last_hidden_state"] is found["hidden_states"][-1]
    assert_are_the_runs(found["hidden_states"], pretrained_folder, signals)
    assert upstream.get_downsample_rates("hidden_states") == 640


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 479, 480, 640, 641, 800, 16000, 16161])
def test_a_state_for_every_stride_begun(exported, samples):
    """s3prl cuts and repeats states to this number, but not by more than half."""
    states = hub_load(exported)([torch.randn(samples)])["hidden_states"]
    for layer in states:
        assert layer.shape == (1, len(range(0, samples, 640)), 16)
        assert torch.isfinite(layer).all()


def test_a_batch_may_hold_a_waveform_that_is_too_short(exported):
    states = hub_load(exported)([torch.randn(16000), torch.randn(3)])["hidden_states"]
    assert all(torch.isfinite(layer).all() for layer in states)


def test_an_upstream_can_be_trained(exported, signals):
    upstream = hub_load(exported).train()
    upstream(signals)["last_hidden_state"].square().sum().backward()
    assert any(p.grad is not None for p in upstream.features.encoder.parameters())


def test_expert_of_the_folder(exported, monkeypatch):
    """What s3prl's ``--from_hf_hub`` does with a folder that it has downloaded."""
    monkeypatch.syspath_prepend(exported)
    monkeypatch.delitem(sys.modules, "expert", raising=False)
    from expert import UpstreamExpert as Found

    upstream = Found(ckpt=str(exported / "model.safetensors"), model_config=None)
    assert isinstance(upstream, UpstreamExpert)
    assert Found().get_downsample_rates("x") == 640
    monkeypatch.delitem(sys.modules, "expert")


def test_another_rate_than_s3prls_is_refused(exported):
    config = exported / "config.json"
    text = config.read_text().replace("n_mels: 40", "n_mels: 40\\n  sample_rate: 8000")
    config.write_text(text)
    with pytest.raises(BadInput, match="8000 Hz, s3prl has 16000 Hz"):
        UpstreamExpert(exported)


# The library itself. Its last release, 0.4.18, calls two functions that torchaudio 2.9
# has removed, when it is imported; nothing else of it is replaced here.


@pytest.fixture
def s3prl(monkeypatch):
    pytest.importorskip("s3prl")
    import torchaudio

    if not hasattr(torchaudio, "set_audio_backend"):
        monkeypatch.setattr(
            torchaudio, "set_audio_backend", lambda _: None, raising=False
        )
        effects = types.ModuleType("torchaudio.sox_effects")
        effects.apply_effects_tensor = None
        monkeypatch.setitem(sys.modules, "torchaudio.sox_effects", effects)
    import s3prl.hub
    import s3prl.nn

    return s3prl


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_upstream_and_featurizer_of_s3prl(
    s3prl, monkeypatch, pretrained_folder, exported, signals
):
    monkeypatch.syspath_prepend(exported)
    monkeypatch.delitem(sys.modules, "hubconf", raising=False)
    import hubconf

    monkeypatch.setattr(s3prl.hub, "birq_local", hubconf.birq_local, raising=False)
    model = s3prl.nn.S3PRLUpstream("birq_local", path_or_url=str(exported)).eval()
    assert model.num_layers == 3 and model.downsample_rates == [640] * 3
    assert model.hidden_sizes == [16] * 3
    wavs = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)
    lengths = torch.tensor([len(signal) for signal in signals])
    states, state_lengths = model(wavs, lengths)
    assert_are_the_runs(states, pretrained_folder, signals)
    assert state_lengths[0].tolist() == [len(range(0, n, 640)) for n in lengths]
    mixed, mixed_lengths = s3prl.nn.Featurizer(model)(states, state_lengths)
    torch.testing.assert_close(mixed, sum(states) / 3)
    assert torch.equal(mixed_lengths, state_lengths[0])
    # The shortest waveform that s3prl's own tests have: it is padded to 0.05 s.
    assert model(torch.randn(1, 8), torch.tensor([8]))[0][0].shape == (1, 1, 16)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_featurizer_of_s3prls_experiments(s3prl, exported, signals):
    from s3prl.upstream.interfaces import Featurizer

    upstream = hub_load(exported)
    featurizer = Featurizer(upstream, upstream_device="cpu")
    assert featurizer.output_dim == 16 and featurizer.downsample_rate == 640
    states = featurizer(signals, upstream(signals))
    assert [len(state) for state in states] == [round(len(s) / 640) for s in signals]
    monkey = [name for name in sys.modules if name == "hubconf"]
    for name in monkey:
        del sys.modules[name]
