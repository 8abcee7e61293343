"""Publishing a run: half precision, no paths, and loading it by its name."""

import json
import re
import runpy

import pytest
import torch
from safetensors.torch import load_file
from small_runs import ROOT, finetune

from speechbrain_birq.checkpoints import published
from speechbrain_birq.checkpoints.published import WEIGHTS, find_run
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import SpeechEncoder
from speechbrain_birq.inference.pretrained import load_labeller

SCRIPT = ROOT / "experiments/weights/publish.py"


@pytest.fixture(scope="module")
def folder(pretrained, tmp_path_factory):
    """Published weights of a run of a few steps, with the name "tones"."""
    folder = tmp_path_factory.mktemp("weights") / "tones"
    runpy.run_path(str(SCRIPT))["publish"](pretrained[0], folder)
    return folder


@pytest.fixture
def named(folder, monkeypatch):
    """Let the package find these weights in place of its own."""
    monkeypatch.setattr(published, "carried_folder", lambda _: folder.parent)


def test_the_encoder_is_rounded_and_the_rest_is_exact(pretrained, folder):
    run = pretrained[0]
    before = torch.load(best_checkpoint(run) / "model.ckpt", weights_only=True)
    after = load_file(folder / WEIGHTS)
    assert before.keys() - after.keys() == {n for n in before if n.startswith("heads.")}
    for name, value in after.items():
        expected = before[name]
        if name.startswith("encoder."):
            expected = expected.half()
        torch.testing.assert_close(value, expected, rtol=0, atol=0, msg=name)


def test_a_name_loads_as_the_run_does(named, pretrained):
    encoder, other = SpeechEncoder("tones"), SpeechEncoder(pretrained[0])
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    found, expected = encoder.encoder.state_dict(), other.encoder.state_dict()
    torch.testing.assert_close(found, expected, rtol=2**-10, atol=1e-6)


def test_a_folder_of_that_name_comes_first(named, tmp_path, monkeypatch):
    (tmp_path / "tones").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_run("tones").resolve() == tmp_path / "tones"


def test_a_name_that_nothing_has_stays_as_it_is(named):
    with pytest.raises(BadInput, match="tunes is not a run folder"):
        SpeechEncoder("tunes")


def test_published_weights_still_label(pretrained, folder):
    first, second = (load_labeller(run, layer=1) for run in (pretrained[0], folder))
    for name in ("anchor_quantizer", "enhanced_quantizer", "label_norm"):
        expected = getattr(first, name).state_dict()
        found = getattr(second, name).state_dict()
        torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=name)


def test_fine_tuning_starts_from_a_name(named, folder, corpus, tmp_path):
    finetune(corpus, tmp_path / "ctc", pretrained="tones", lr_encoder=0)
    found = SpeechEncoder(tmp_path / "ctc").encoder.state_dict()
    expected = SpeechEncoder("tones").encoder.state_dict()
    torch.testing.assert_close(found, expected)
    record = json.loads((tmp_path / "ctc/pretrained.json").read_text())
    assert (record["run"], record["step"]) == (str(folder), 3)


def test_the_settings_name_no_folder_of_this_machine(folder):
    settings = (folder / "hyperparams.yaml").read_text()
    assert "\ndata_folder: !PLACEHOLDER" in settings
    assert "\noutput_folder: results/tones" in settings
    for path in (*folder.glob("*.yaml"), *folder.glob("*.json"), folder / "README.md"):
        assert not re.search(r"[ \"']/\w+/", path.read_text()), path.name


@pytest.mark.parametrize("keep", [0, 50, -100])
def test_corrupt_weights_are_named(folder, tmp_path, keep):
    for path in folder.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:keep])
    with pytest.raises(BadInput, match=WEIGHTS):
        SpeechEncoder(tmp_path)
