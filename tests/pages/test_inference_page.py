"""docs/inference.md: its Python runs as it stands."""

import re
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from small_corpus import tone

PAGE = Path(__file__).parents[2] / "docs" / "inference.md"
BLOCKS = dict(
    re.findall(r"<!-- (\w+\.py) -->\n```python\n(.*?)```", PAGE.read_text(), re.S)
)


@pytest.fixture
def names(run_folder, tmp_path, monkeypatch):
    """names(block): what the page's code has defined, beside runs and two files."""
    monkeypatch.chdir(tmp_path)
    for name in ("birq_base", "ctc_base"):
        shutil.copytree(run_folder, tmp_path / "results" / name)
    for seed, name in enumerate(("a.wav", "b.wav")):
        soundfile.write(name, tone(1.0 + seed, 16000, seed), 16000)

    def run(block):
        found = {"__name__": "page"}
        exec(BLOCKS[block], found)
        return found

    return run


def test_features_have_the_shapes_that_the_page_says(names):
    found = names("features.py")
    assert found["last"].shape == found["middle"].shape == (25, 16)
    assert found["every"].shape == (3, 25, 16)
    assert found["some"].shape == (2, 25, 16)
    assert [len(states) for states in found["many"]] == [25, 50]
    assert found["features"].shape == (2, 25, 16)
    assert found["lengths"].tolist() == [25, 12]


def test_a_brain_trains_the_encoder(names):
    brain = names("brain.py")["brain"]
    encoder = brain.modules.encoder
    before = {k: v.clone() for k, v in encoder.state_dict().items()}

    class Batch:
        sig = torch.randn(2, 16000), torch.ones(2)
        emotion = torch.tensor([0, 3])

        def to(self, device):
            return self

    brain.init_optimizers()
    brain.fit_batch(Batch())
    after = encoder.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_texts(names, capsys):
    found = names("texts.py")
    transcript = found["transcript"]
    assert found["text"] == transcript.text == found["many"][0].text
    assert len(capsys.readouterr().out.splitlines()) == len(transcript.words)
    assert found["log_probs"].shape[:2] == (1, found["lengths"].item())
