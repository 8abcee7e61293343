"""Runs and exports of the layout before the rooms load and give what they gave then."""

import json
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import tone
from small_runs import finetune, weights
from speechbrain.inference.encoders import WaveformEncoder

from speechbrain_birq.checkpoints.moved_names import MOVED
from speechbrain_birq.inference import (
    Recogniser,
    SpeechEncoder,
    StreamingRecogniser,
    load_labeller,
)

OLD = Path(__file__).parent / "old_layout"
EXPECTED = dict(np.load(OLD / "expected.npz"))


@pytest.fixture
def audio(corpus):
    return corpus / "train" / "13" / "1" / "13-1-0001.flac"


def assert_as_stored(found, name):
    torch.testing.assert_close(found, torch.tensor(EXPECTED[name]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "layer"), [("last", None), ("layer_1", 1)])
def test_features_of_a_pretraining(audio, name, layer):
    found = SpeechEncoder(OLD / "pretrained").features(audio, layer)
    assert_as_stored(found, name)


@pytest.mark.parametrize("kind", ["anchor", "enhanced"])
@torch.no_grad()
def test_labels_of_a_pretraining(audio, kind):
    model = load_labeller(OLD / "pretrained", 1)
    signal = SpeechEncoder(OLD / "pretrained").read(audio)
    codes = getattr(model.labels(signal, torch.ones(1)), kind)[0]
    assert codes.unique().numel() > 1
    assert torch.equal(codes, torch.tensor(EXPECTED[kind]))


def test_transcript_of_a_fine_tuning(audio):
    recogniser = Recogniser(OLD / "finetuned")
    assert_as_stored(recogniser.log_probs(audio)[0][0], "log_probs")
    assert recogniser.transcribe(audio) == str(EXPECTED["text"]) == "SIX SEVEN EIGHT"


def test_streaming_of_a_fine_tuning(audio):
    recogniser = StreamingRecogniser(OLD / "finetuned", chunk=8, left=4)
    assert recogniser.transcribe(audio) == str(EXPECTED["streamed"])


def test_fine_tuning_starts_from_an_old_pretraining(corpus, tmp_path):
    run = tmp_path / "run"
    more = dict(test_splits="[test]", lr_encoder=0.0)
    finetune(corpus, run, pretrained=OLD / "pretrained", **more)
    old, new = weights(OLD / "pretrained"), weights(run)
    learned = [name for name in new if name.startswith("encoder.layers.")]
    assert learned
    for name in learned:
        assert torch.equal(new[name], old[name]), name
    assert "test" in json.loads((run / "results.json").read_text())


@torch.no_grad()
def test_stock_speechbrain_loads_an_old_export():
    model = WaveformEncoder.from_hparams(str(OLD / "exported"))
    encoder = SpeechEncoder(OLD / "pretrained")
    signal = torch.from_numpy(tone(1.0, 16000, 0)).float()[None]
    expected = encoder.encoder(*encoder.frontend(signal, torch.ones(1)))
    found = model.encode_batch(signal, torch.ones(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def names_in_the_old_yaml():
    texts = [path.read_text() for path in OLD.rglob("*.yaml")]
    found = re.findall(r"!(?:new|name):(speechbrain_birq\.[\w.]+)", "".join(texts))
    return sorted({*found, *(f"speechbrain_birq.{name}" for name in MOVED)})


@pytest.mark.parametrize("name", names_in_the_old_yaml())
def test_old_names_are_found_as_hyperpyyaml_looks_for_them(name):
    found = pydoc.locate(name)
    assert isinstance(found, type)
    assert found.__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize("name", ["nothing", "brains.nothing", "encoder.Nothing"])
def test_names_that_never_were_are_not_found(name):
    assert pydoc.locate(f"speechbrain_birq.{name}") is None
