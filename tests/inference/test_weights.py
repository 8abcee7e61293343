"""Weights that come with the package: found by name, and what they say of a signal."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

from speechbrain_birq.checkpoints.published import WEIGHTS
from speechbrain_birq.config.shipped import carried_folder
from speechbrain_birq.inference import SpeechEncoder

NAMES = "best_rq_tiny", "birq_tiny"
FOLDER = carried_folder("weights")
# Of the checkpoints in single precision, by experiments/weights/features.py.
FEATURES = Path(__file__).with_name("weights_features.json")


def features(run):
    """Return {layer: 3 frames x 6 channels} of a tone that rises to 1,800 Hz in 1 s."""
    time = torch.arange(16000, dtype=torch.float64) / 16000
    tone = 0.1 * torch.sin(2 * math.pi * (200 + 800 * time) * time)
    encoder = SpeechEncoder(run)
    with torch.no_grad():
        frames = encoder.frontend(tone.float().unsqueeze(0), torch.ones(1))
        states = encoder.encoder.hidden_states(*frames)
    return {str(layer): states[layer][0, 10:13, :6] for layer in (1, 2, 4)}


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_the_checkpoint(name):
    expected = json.loads(FEATURES.read_text())[name]
    for layer, found in features(name).items():
        wanted = torch.tensor(expected[layer])
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_and_name_no_folder_of_a_machine(name):
    folder = FOLDER / name
    assert (folder / WEIGHTS).stat().st_size < 5e6
    for path in [*folder.glob("*.yaml"), *folder.glob("*.json"), folder / "README.md"]:
        assert not re.search(r"[ \"']/\w+/", path.read_text()), path.name


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_one_must_know(name):
    card = (FOLDER / name / "README.md").read_text()
    for word in ("license: apache-2.0", "speechocean762", "3.89 h", "birq pretrain"):
        assert word in card, word
    assert (FOLDER / name / "curves.png").is_file()
