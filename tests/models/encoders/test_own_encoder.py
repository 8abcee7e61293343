"""docs/encoders.md: its table is true, its module is pretrained and fine-tuned."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from small_runs import FINETUNE, PRETRAIN, encoder_weights, log, run

from speechbrain_birq import experiment
from speechbrain_birq.checkpoints.run_folder import load_architecture, save_architecture
from speechbrain_birq.config import load_configuration
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import SpeechEncoder
from speechbrain_birq.models.encoders.layers import ATTENTION

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
(LINE,) = re.findall(r"```yaml\n(encoder: .*)\n```", PAGE)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The page's code, importable as my_encoders."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "my_encoders.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    yield folder / "my_encoders.py"
    sys.modules.pop("my_encoders", None)


@pytest.fixture
def yaml(tmp_path):
    """birq_tiny.yaml with the page's one line in it."""
    hparams = shutil.copytree(ROOT / "hparams", tmp_path / "hparams")
    path = hparams / "birq_tiny.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"\nencoder: .*", f"\n{LINE}", text), encoding="utf-8")
    return path


def test_the_example_has_at_most_20_lines():
    assert len([line for line in CODE.splitlines() if line]) <= 20


def test_pretraining_and_fine_tuning_take_the_module_of_the_page(
    _corpus_template, tmp_path, module, yaml, fails
):
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "run")
    settings = PRETRAIN | dict(optimizer_step_limit=2, dropout=0.1)
    figures = run(experiment.pretrain, yaml, settings, **folders)
    assert figures["step"] == 2
    assert 0 < figures["loss"] < 20

    ctc = dict(data_folder=_corpus_template, output_folder=tmp_path / "ctc")
    ctc |= dict(pretrained=tmp_path / "run", trust="my_encoders")
    settings = FINETUNE | dict(optimizer_step_limit=None, dropout=0.3)
    rates = run(experiment.finetune, "ctc_tiny.yaml", settings, **ctc)
    assert rates["test"]["utterances"] == 3

    for name in ("run", "ctc"):
        assert log(tmp_path / name).endswith(" --trust my_encoders\n")

    before = encoder_weights(tmp_path / "run")
    after = encoder_weights(tmp_path / "ctc")
    name = "encoder.layers.1.weight_hh_l0_reverse"
    assert 0 < (before[name] - after[name]).abs().max() < 0.05

    settings |= dict(ctc, fresh_layers=1, output_folder=tmp_path / "none")
    fails(
        lambda: run(experiment.finetune, "ctc_tiny.yaml", settings),
        "LSTMs has no method last_layers, give --fresh_layers 0",
    )
    audio = next((_corpus_template / "test").rglob("*.flac"))
    encoder = SpeechEncoder(tmp_path / "run", trust=("my_encoders",))
    assert encoder.features(audio, 1).shape[1] == 16


def test_without_trust_the_run_folder_is_refused(
    _corpus_template, tmp_path, module, yaml
):
    overrides = {"data_folder": "x", "output_folder": str(tmp_path / "run")}
    resolved = load_configuration(yaml, overrides).resolved
    save_architecture(resolved, tmp_path / "run" / "architecture.yaml")
    with pytest.raises(BadInput, match=r"my_encoders\.LSTMs, which is not trusted"):
        load_architecture(tmp_path / "run")
    built = load_architecture(tmp_path / "run", ("my_encoders",))["encoder"]
    assert type(built).__name__ == "LSTMs"


def test_the_module_keeps_the_contract(module):
    import my_encoders

    torch.manual_seed(0)
    encoder = my_encoders.LSTMs(
        **dict(input_dim=12, num_layers=3, d_model=8, dropout=0.0),
        **dict(nhead=1, kernel_size=1, d_ffn=1),
    )
    lengths = torch.tensor([9, 4, 1])
    frames = torch.randn(3, 9, 12)
    states = encoder.hidden_states(frames, lengths)
    assert len(states) == encoder.num_layers + 1
    for k in range(1, 4):
        assert torch.equal(encoder(frames, lengths, num_layers=k), states[k])
    for frame, mine, length in zip(frames, states[-1], lengths.tolist(), strict=True):
        alone = encoder(frame[None, :length], torch.tensor([length]))[0]
        torch.testing.assert_close(mine[:length], alone, rtol=0, atol=1e-6)
    encoder.set_dropout(0.5)
    assert not torch.equal(encoder(frames, lengths), states[-1])


@pytest.mark.parametrize(
    "name", ["num_layers", "output_dim", "hidden_states", "set_dropout"]
)
def test_an_encoder_that_lacks_something_is_refused_by_name(
    tmp_path, module, yaml, name
):
    text = module.read_text(encoding="utf-8")
    module.write_text(re.sub(rf"(self\.|def ){name}\b", rf"\1{name}_", text))
    overrides = {"data_folder": "x", "output_folder": str(tmp_path / "run")}
    with pytest.raises(BadInput, match=f"LSTMs lacks {name}: see"):
        load_configuration(yaml, overrides)


@pytest.mark.parametrize("name", ["output_dim", "hidden_states"])
def test_fine_tuning_refuses_such_an_encoder_in_one_sentence(
    _corpus_template, tmp_path, module, yaml, fails, name
):
    text = module.read_text(encoding="utf-8")
    module.write_text(re.sub(rf"(self\.|def ){name}\b", rf"\1{name}_", text))
    delta = yaml.with_name("lstm.yaml")
    delta.write_text(f"!include:ctc_tiny.yaml\n{LINE}\n", encoding="utf-8")
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "run")
    fails(
        lambda: run(experiment.finetune, delta, FINETUNE, **folders),
        f"LSTMs lacks {name}: see docs/encoders.md",
    )


def table():
    """Kind, attention types and parameters of every row of the page."""
    pattern = r"^\| `(\w+)` \| (`[^|]*)\|[^|]*\| ([\d.]+) M \|$"
    return re.findall(pattern, PAGE, re.M)


def test_the_table_holds_every_pair():
    found = {kind: tuple(re.findall(r"`(\w+)`", row)) for kind, row, _ in table()}
    assert found == ATTENTION


def load(path, **overrides):
    folders = {"data_folder": "x", "output_folder": str(path.parent / "run")}
    return load_configuration(path, folders | overrides).hparams["encoder"]


def millions(encoder):
    return f"{sum(parameter.numel() for parameter in encoder.parameters()) / 1e6:.2f}"


@pytest.mark.parametrize(("kind", "attention", "expected"), table())
def test_the_table_has_each_kinds_own_figures(tmp_path, kind, attention, expected):
    path = shutil.copy(ROOT / "hparams/birq_tiny.yaml", tmp_path)
    encoder = load(Path(path), encoder_kind=kind)
    assert millions(encoder) == expected
    assert encoder.attention_type == ATTENTION[kind][0]


def test_the_delta_with_convolutions_has_the_pages_figure(tmp_path):
    shutil.copy(ROOT / "hparams/birq_tiny.yaml", tmp_path)
    (delta,) = re.findall(r"```yaml\n(!include:.*?)```", PAGE, re.S)
    (expected,) = re.findall(r"\(([\d.]+) M parameters\)", PAGE)
    path = tmp_path / "delta.yaml"
    path.write_text(delta, encoding="utf-8")
    assert millions(load(path)) == expected
