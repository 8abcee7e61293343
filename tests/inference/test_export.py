"""A run folder in stock SpeechBrain: the pages' YAML and Brains train and load."""

import re
import shutil
from pathlib import Path

import pytest
import soundfile
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from small_corpus import tone
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.inference.encoders import WaveformEncoder
from torch.utils.data import DataLoader

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import best_checkpoint, load_architecture
from speechbrain_birq.cli.main import main
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import (
    PretrainedEncoder,
    SpeechEncoder,
    SpeechFeatures,
    export_run,
)

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "speechbrain.md").read_text("utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", (DOCS / "encoders.md").read_text(), re.S)
BLOCKS = dict(re.findall(r"<!-- (\w+\.\w+) -->\n```\w+\n(.*?)```", PAGE, re.S))


def saved_encoder(folder):
    """The encoder's weights as they lie in the run's checkpoint."""
    weights = torch.load(best_checkpoint(folder) / "model.ckpt", weights_only=True)
    prefix = "encoder."
    return {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix)
    }


def assert_is_the_runs(encoder, folder):
    expected = saved_encoder(folder)
    assert expected
    assert encoder.state_dict().keys() == expected.keys()
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, expected[name]), name


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.fixture
def run_folder(run_folder):
    """The folder of a pretraining: without tokens."""
    (run_folder / "characters.json").unlink()
    return run_folder


@pytest.fixture
def exported(run_folder, tmp_path):
    export_run(run_folder, tmp_path / "exported", formats=["speechbrain"])
    return tmp_path / "exported"


@pytest.fixture
def batch():
    """Three tones with token sequences, as a recipe's loader gives them."""
    return PaddedBatch(examples())


def examples():
    found = []
    for number, seconds in enumerate((1.0, 0.7, 1.3)):
        tokens = [3 + number, 4, 5 + number]
        found.append(
            {
                "id": f"tone-{number}",
                "sig": torch.from_numpy(tone(seconds, 16000, number)).float(),
                "tokens": torch.tensor(tokens),
                "tokens_bos": torch.tensor([1, *tokens]),
                "tokens_eos": torch.tensor([*tokens, 2]),
            }
        )
    return found


# The module.


def test_states_are_those_of_the_run(run_folder, batch):
    encoder = PretrainedEncoder(run_folder=run_folder).eval()
    assert_is_the_runs(encoder.encoder, run_folder)
    run = SpeechEncoder(run_folder)
    wavs, wav_lens = batch.sig
    with torch.no_grad():
        states = encoder(wavs, wav_lens)
        frames, lengths = run.frontend(wavs, wav_lens)
        expected = run.encoder(frames, lengths)
    assert states.shape == (3, frames.shape[1], encoder.output_dim)
    for mine, right, length in zip(states, expected, lengths.tolist(), strict=True):
        close(mine[:length], right[:length])
        assert not mine[length:].any()
    # SpeechBrain's relative lengths, rounded as its losses round them.
    rounded = torch.round(wav_lens * states.shape[1]).long()
    assert (rounded - lengths).abs().max() <= 1


@pytest.mark.parametrize("layer", [1, 2])
def test_a_layer_is_the_hidden_state_and_no_layer_above_runs(run_folder, batch, layer):
    encoder = PretrainedEncoder(run_folder=run_folder, layer=layer).eval()
    calls = []
    for module in encoder.encoder.layers:
        module.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        states = encoder(*batch.sig)
        assert len(calls) == layer
        frames = encoder.frontend(*batch.sig)
        expected = encoder.encoder.hidden_states(*frames)[layer]
    valid = frames.valid
    assert torch.equal(states[valid], expected[valid])


def test_frozen_is_eval_mode_and_no_gradient(run_folder, batch):
    encoder = PretrainedEncoder(run_folder=run_folder, freeze=True, dropout=0.5)
    for mode in (True, False):
        encoder.train(mode)
        assert not any(module.training for module in encoder.encoder.modules())
    encoder.train()
    states = encoder(*batch.sig)
    assert not states.requires_grad
    assert not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(states, encoder(*batch.sig))


def test_not_frozen_gradients_reach_every_parameter(run_folder, batch):
    encoder = PretrainedEncoder(run_folder=run_folder)
    assert encoder.encoder.training and not encoder.frontend.training
    encoder(*batch.sig).square().sum().backward()
    assert all(p.grad is not None for p in encoder.encoder.parameters())


def test_dropout_is_the_runs_or_the_one_that_is_given(run_folder, batch):
    def varies(**options):
        encoder = PretrainedEncoder(run_folder=run_folder, **options).train()
        with torch.no_grad():
            return not torch.equal(encoder(*batch.sig), encoder(*batch.sig))

    assert varies()  # the architecture says 0.1 by default
    assert not varies(dropout=0.0)


# The page.


def fit(name, tmp_path, overrides, replace=("", "")):
    """Run the page's YAML, Brain and last lines; losses of the epochs, the Brain."""
    yaml, code, last = (
        BLOCKS[block].replace(*replace) if replace[0] else BLOCKS[block]
        for block in (f"{name}.yaml", f"{name}.py", f"{name}_main.py")
    )
    overrides = overrides | {"output_folder": str(tmp_path / "stock")}
    torch.manual_seed(0)
    hparams = load_hyperpyyaml(yaml, overrides)
    loader = DataLoader(examples(), batch_size=3, collate_fn=PaddedBatch)
    names = {"hparams": hparams, "train_set": loader, "valid_set": loader}
    names["run_opts"] = {"device": "cpu", "noprogressbar": True}
    exec(code, names)
    losses = []

    class Recorded(names["ASR"]):
        def on_stage_end(self, stage, stage_loss, epoch=None):
            if stage == sb.Stage.TRAIN:
                losses.append(stage_loss)

    names["ASR"] = Recorded
    exec(last, names)
    return losses, names["brain"]


def test_ctc_fine_tuning_of_the_page(run_folder, tmp_path):
    before = saved_encoder(run_folder)
    tiny = dict(run_folder=str(run_folder), number_of_epochs=8, output_neurons=9)
    tiny |= dict(lr=0.01, lr_encoder=0.003, dropout=0.0)
    losses, brain = fit("ctc", tmp_path, tiny)
    assert len(losses) == 8
    assert torch.isfinite(torch.tensor(losses)).all()
    assert losses[-1] < 0.7 * losses[0]
    after = brain.modules.encoder.encoder.state_dict()
    moved = max((before[name] - after[name]).abs().max() for name in before)
    assert 0 < moved < 0.1
    assert len(brain.hypotheses) == 3
    assert brain.checkpointer.recoverables.keys() >= {"encoder", "encoder_optimizer"}
    assert brain.max_grad_norm == 5.0


def test_ctc_of_the_page_starts_from_the_run(run_folder, tmp_path):
    overrides = dict(run_folder=str(run_folder), output_folder=str(tmp_path / "out"))
    hparams = load_hyperpyyaml(BLOCKS["ctc.yaml"], overrides)
    assert hparams["modules"]["encoder"] is hparams["encoder"]
    assert_is_the_runs(hparams["encoder"].encoder, run_folder)
    assert hparams["encoder"].encoder.dropout.p == 0.1


# SpeechBrain's decoder hands PyTorch masks of two types.
@pytest.mark.filterwarnings("ignore:Support for mismatched:UserWarning")
def test_attention_over_a_frozen_encoder_of_the_page(run_folder, exported, tmp_path):
    tiny = dict(number_of_epochs=8, output_neurons=9, d_model=16, nhead=2, d_ffn=32)
    tiny |= dict(num_encoder_layers=1, num_decoder_layers=1, beam_size=2)
    tiny |= dict(lr=0.02, n_warmup_steps=2, dropout=0.0, label_smoothing=0.0)
    where = ("exported", str(exported))
    losses, brain = fit("transformer", tmp_path, tiny, where)
    assert len(losses) == 8
    assert torch.isfinite(torch.tensor(losses)).all()
    assert losses[-1] < 0.7 * losses[0]
    encoder = brain.modules.encoder
    assert_is_the_runs(encoder.encoder, run_folder)
    brain.modules.train()
    assert encoder.freeze and not encoder.encoder.training
    assert all(p.grad is None for p in encoder.parameters())
    brain.evaluate(
        DataLoader(examples(), batch_size=3, collate_fn=PaddedBatch), progressbar=False
    )
    assert len(brain.hypotheses) == 3


def test_features_of_the_page(run_folder, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", tone(1.0, 16000, 0), 16000)
    names = {}
    exec(BLOCKS["features.py"], names)
    expected = SpeechEncoder(run_folder).features("a.wav", layer=2)
    assert names["states"].shape == (1, *expected.shape)
    close(names["states"][0], expected)
    assert_is_the_runs(names["model"].mods.encoder.encoder, run_folder)


# The exported folder.


def test_an_exported_folder_gives_the_states_of_the_run(run_folder, exported, batch):
    assert {path.name for path in exported.iterdir()} == {
        "README.md",
        "hyperparams.yaml",
        "encoder.ckpt",
    }
    model = WaveformEncoder.from_hparams(str(exported))
    with torch.no_grad():
        expected = PretrainedEncoder(run_folder=run_folder).eval()(*batch.sig)
        close(model.encode_batch(*batch.sig), expected)


def test_the_exported_weights_are_tensors_only(exported):
    weights = torch.load(exported / "encoder.ckpt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_the_exported_sampling_rate_is_the_runs(run_folder, tmp_path):
    path = run_folder / "architecture.yaml"
    text = path.read_text().replace("n_mels: 40", "n_mels: 40\n  sample_rate: 8000")
    path.write_text(text)
    main(["export", str(run_folder), str(tmp_path / "exported")])
    model = WaveformEncoder.from_hparams(str(tmp_path / "exported"))
    assert model.mods.encoder.frontend.sample_rate == 8000
    assert model.audio_normalizer.sample_rate == 8000


def test_an_encoder_of_ones_own_is_exported_with_trust(
    run_folder, tmp_path, monkeypatch, batch
):
    (tmp_path / "my_encoders.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    text = (run_folder / "architecture.yaml").read_text()
    text = text.replace(
        "speechbrain_birq.models.encoders.encoder.SpeechBrainEncoder",
        "my_encoders.LSTMs",
    )
    text = text.replace("kind: conformer", "dropout: 0.0")
    (run_folder / "architecture.yaml").write_text(text)
    model = torch.nn.ModuleDict(load_architecture(run_folder, ("my_encoders",)))
    shutil.rmtree(run_folder / "save")
    AtomicCheckpointer(run_folder / "save", {"model": model}).save_checkpoint()
    with pytest.raises(BadInput, match="--trust"):
        PretrainedEncoder(run_folder=run_folder)
    folder = tmp_path / "exported"
    main(["export", str(run_folder), str(folder), "--trust", "my_encoders"])
    states = WaveformEncoder.from_hparams(str(folder)).encode_batch(*batch.sig)
    trusted = PretrainedEncoder(run_folder=run_folder, trust=["my_encoders"])
    close(states, trusted.eval()(*batch.sig))


# Bad input.


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_a_layer_that_is_not_there_is_refused(run_folder, layer):
    with pytest.raises(BadInput, match=f"no layer {layer}: the encoder has 1 to 2"):
        PretrainedEncoder(run_folder=run_folder, layer=layer)


def test_a_layer_that_is_not_there_is_one_sentence_in_yaml(exported):
    with pytest.raises(BadInput, match="no layer 7"):
        WaveformEncoder.from_hparams(str(exported), overrides={"layer": 7})


def one_sentence(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        main(["export", *map(str, argv)])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_no_run_folder_is_one_sentence(tmp_path, capsys):
    message = one_sentence(capsys, tmp_path / "none", tmp_path / "exported")
    assert "is not a run folder" in message
    assert not (tmp_path / "exported").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(run_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    message = one_sentence(capsys, run_folder, tmp_path / "file" / "exported")
    assert "cannot write" in message and "Not a directory" in message


def test_a_folder_in_use_is_left_as_it_is(run_folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}
    assert "is not empty" in one_sentence(capsys, run_folder, run_folder)
    assert before == {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}


def test_a_disk_that_is_full_is_one_sentence(run_folder, tmp_path, capsys, monkeypatch):
    def full(state, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    message = one_sentence(capsys, run_folder, tmp_path / "exported")
    assert "exported (No space left on device)" in message


def test_features_do_not_need_a_run_folder(run_folder):
    parts = load_architecture(run_folder)
    features = SpeechFeatures(**parts, layer=1)
    assert features.output_dim == 16
