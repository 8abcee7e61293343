"""SpeechBrain's run options, from the YAML or the command line, reach the Brain."""

import time

import pytest
import torch
from small_brains import Nowhere
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder

OPTIONS = dict(
    precision="bf16",
    grad_accumulation_factor=3,
    max_grad_norm=10.0,
    optimizer_step_limit=77,
    nonfinite_patience=9,
    ckpt_interval_minutes=4,
)


@pytest.mark.parametrize("name", OPTIONS)
def test_run_options_of_the_yaml_reach_the_brain(make_brain, name):
    untouched = RunOptions.from_dictionary({})
    brain = make_brain(run_opts=untouched, **OPTIONS)
    assert getattr(brain, name) == OPTIONS[name]


def test_the_command_line_beats_the_yaml(make_brain):
    options = RunOptions.from_dictionary({"max_grad_norm": 1.0, "precision": "fp32"})
    brain = make_brain(run_opts=options, **OPTIONS)
    assert brain.max_grad_norm == 1.0
    assert brain.precision == "fp32"
    assert brain.grad_accumulation_factor == 3


def test_compile_takes_the_encoder_for_every_length(make_brain, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        SpeechBrainEncoder, "compile", lambda _, **how: compiled.append(how)
    )
    brain = make_brain(run_opts=RunOptions.from_dictionary({"compile": True}))
    assert compiled == [{"mode": "default", "dynamic": True}]
    assert not isinstance(brain.modules.model, torch._dynamo.OptimizedModule)
    make_brain()
    assert len(compiled) == 1


def test_batch_norm_that_is_computed_again_cannot_be_compiled(make_brain):
    brain = make_brain({"kind": "block_conformer"})
    brain.compile, brain.model.encoder.activation_checkpointing = True, True
    with pytest.raises(BadInput, match="leave out one of the two"):
        brain._compile()


def test_a_clock_that_is_set_back_delays_no_checkpoint(make_brain, monkeypatch):
    brain = make_brain(checkpointer=Nowhere(), **OPTIONS)
    brain.on_fit_start()
    started, seconds = time.time(), time.monotonic()

    def is_due(minutes):
        monkeypatch.setattr(time, "time", lambda: started + 60 * minutes - 24 * 3600)
        monkeypatch.setattr(time, "monotonic", lambda: seconds + 60 * minutes)
        return brain._should_save_intra_epoch_ckpt(started, steps_since_ckpt=1)

    assert [is_due(3), is_due(5)] == [False, True]
    brain.save({})
    assert [is_due(8), is_due(10)] == [False, True]
