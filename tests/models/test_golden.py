"""Same seed, same losses: a change that is to make the step faster changes no number.

The losses of 20 steps were written by the plain form of the step. Who changes the
method on purpose writes the new ones: a failing test prints them.
"""

import json
from pathlib import Path

import pytest
import torch

from speechbrain_birq.models.objectives import penalty_sum

GOLDEN = json.loads((Path(__file__).parent / "golden/losses.json").read_text())
STEPS, UTTERANCES = 20, 3
SIZE = dict(num_layers=3, label_layer=2, num_codebooks=2, chunk=32)
FORMS = {
    "birq": dict(),
    "birq_forward": dict(gradient=False, label_norm="channel", shared_head=False),
    "birq_relpos": dict(attention_type="RelPosMHAXL", l2_normalize=True),
    "best_rq": dict(),
}


def batch(step):
    """Noise of three lengths, and masks that reach into the padding."""
    generator = torch.Generator().manual_seed(step)
    wavs = torch.randn(UTTERANCES, 16000, generator=generator)
    mask = torch.rand(UTTERANCES, 50, generator=generator) < 0.4
    return 0.1 * wavs, torch.tensor([1.0, 0.8, 0.55]), mask


def losses(model, enhanced):
    """Loss per masked frame at each step."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    values = []
    for step in range(STEPS):
        objective = model(*batch(step), enhanced=enhanced, generator=generator)
        loss = penalty_sum(objective, 0.5, 1.0) / objective.num_frames
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        values.append(loss.item())
    return values


@pytest.mark.parametrize("form", FORMS)
def test_twenty_steps_lose_what_they_lost_before(form, make_model):
    found = losses(make_model(**SIZE | FORMS[form]), enhanced=form != "best_rq")
    assert found == pytest.approx(GOLDEN[form], rel=1e-5), json.dumps(found)
