"""How often a training step synchronizes with the device: not once."""

from functools import partial

import arms
import pytest
import torch
import waits
from arms import make_audio
from small_brains import SPOKEN, batch_of, feed, muon

from speechbrain_birq.brains.label_fitting import LabelFitting
from speechbrain_birq.models.encoders.block_conformer import BlockAttention
from speechbrain_birq.models.labels.fitted_quantizer import (
    FittedQuantizer,
)
from speechbrain_birq.models.labels.quantizer import Codebook

OURS = "best_rq birq_0.7_forward birq_0.7_shipped birq_0.7_4 birq_0.7_block".split()


@pytest.mark.parametrize("name", OURS)
def test_a_step_between_two_log_intervals_synchronizes_never(made, name):
    one, audio = made(name), make_audio(utterances=2, seconds=1.0)
    assert not waits.of_a_step(one, audio)


def test_a_wait_in_the_blocks_of_the_paper_s_encoder_is_found(made, monkeypatch):
    def waiting(attention, valid, block):
        bool(valid.any())
        return own(attention, valid, block)

    one, audio = made("birq_0.7_block"), make_audio(utterances=2, seconds=1.0)
    own = BlockAttention._out_of_sight
    monkeypatch.setattr(BlockAttention, "_out_of_sight", waiting)
    (((name, line), times),) = waits.of_a_step(one, audio).items()
    # One layer in the label pass, two in the masked pass.
    assert (name, times) == ("_local_scalar_dense", 3) and "valid.any()" in line


def test_an_utterance_of_that_arm_has_a_block_of_padding_alone(made):
    batch = made("birq_0.7_block").batch(make_audio(utterances=2, seconds=1.0))
    longest = batch.mask.data.shape[1]
    shortest = round(longest * batch.mask.lengths.min().item())
    window = arms.ARMS["birq_0.7_block"].window
    assert -(-shortest // window) < -(-longest // window)


def test_a_step_of_muon_synchronizes_never(made):
    one, audio = made("best_rq"), make_audio(utterances=2, seconds=1.0)
    one.brain.opt_class = partial(muon, lr=0.01, fused=True)
    arms.ready(one.brain)
    assert not waits.of_a_step(one, audio)
    assert len(one.brain.optimizer.param_groups) == 2


def test_speechbrains_step_synchronizes_twice(made):
    found = waits.of_a_step(made("peer"), make_audio(utterances=2, seconds=1.0))
    # Whether the loss is finite; the loss.
    names = sorted(name for name, _ in found.elements())
    assert names == ["_local_scalar_dense", "cpu"]


def test_an_optimizer_that_is_not_fused_synchronizes_once(made):
    one, audio = made("best_rq"), make_audio(utterances=2, seconds=1.0)
    one.brain.optimizer.param_groups[0]["fused"] = False
    (((name, line), times),) = waits.of_a_step(one, audio).items()
    assert (name, times) == ("_local_scalar_dense", 1)
    assert "if finite" in line


def test_fine_tuning_synchronizes_never(make_ctc):
    brain = make_ctc(
        opt_class=lambda p: torch.optim.Adam(p, lr=0.01, fused=True), log_interval=100
    )
    feed(brain, batch_of(*SPOKEN))
    with waits.counted() as found:
        (loss,) = feed(brain, batch_of(*SPOKEN))
        brain.update_average(loss, 0.0)
    assert not found


def test_fitted_labels_are_not_read_in_every_step(make_model):
    model = make_model()
    codebook = Codebook(num_codes=8, code_dim=4)
    model.anchor_quantizer = FittedQuantizer(
        input_dim=40, codebook=codebook, seed=1, codes="centroids"
    )
    fitting = LabelFitting(seconds=1, batch_seconds=1, refit_steps=10)
    fitting(model, 0, lambda: iter([torch.randn(16000)]))
    assert model.anchor_quantizer.num_fits == 1
    with waits.counted() as found:
        fitting(model, 9, None)
    assert not found


def test_what_a_batch_does_on_the_host_is_not_counted(made):
    batch = made("birq_0.7").batch(make_audio(utterances=1, seconds=0.5))
    with waits.counted() as found:
        int(batch.mask.data.sum())
        batch = batch.to("cpu")
        int(batch.mask.data.sum())
    assert found.total() == 1


def test_every_kind_of_synchronization_is_counted():
    numbers = torch.arange(4.0)
    few = numbers > 2
    with waits.counted() as found:
        if numbers[few].sum() == numbers.max().item():
            numbers[few] = 0
        numbers.tolist(), numbers[few.nonzero()].cpu(), numbers[1:3]
    assert found.total() == 7
