"""Fine-tuning: a step of two gloo ranks equals one process on the joined batch."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
from gloo_ranks import on_two_ranks
from small_brains import TOKENS, Log, batch_of, constant, example
from speechbrain.core import Stage
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.brains import CTCBrain
from speechbrain_birq.brains.ctc import Transfer
from speechbrain_birq.models.ctc import CTCModel

# Micro-batches of each rank, as numbers of utterances; None: the rank has no batch.
A, B, C, D = (1, 2), (3,), (4, 5, 6), (7,)
STEPS = {
    "one batch": [[A], [B]],
    "accumulation": [[A, B], [C, D]],
    "no batch": [[C], [None]],
    "no batch within a step": [[A, None], [None, D]],
}
# Gradients are up to 20 here: at this rate the float32 error of a step is below 1e-6.
RATE = 0.03
TEXTS = ["A", "AB", "BA B"]  # unequal numbers of tokens


def step(model, groups):
    """Make a step; return the weights and the figures of the epoch."""
    hparams = dict(
        seed=1,
        lr_schedule=constant,
        epoch_counter=EpochCounter(limit=1),
        run_log=Log(),
        noprogressbar=True,
        device="cpu",
    )
    hparams["epoch_counter"].current = 1
    options = {"grad_accumulation_factor": len(groups), "max_grad_norm": 1e9}
    options |= {"distributed_backend": "gloo", "device": "cpu"}
    brain = CTCBrain(
        modules={"model": model},
        opt_class=lambda parameters: torch.optim.SGD(parameters, lr=RATE),
        hparams=hparams,
        run_opts=RunOptions.from_dictionary(options),
        tokens=TOKENS,
        decoder=None,
        transfer=Transfer(),
    )
    brain.on_fit_start()
    brain.on_stage_start(Stage.TRAIN, 1)
    brain.modules.train()
    brain.num_batches = len(groups)
    for brain.step, group in enumerate(groups, 1):
        brain.fit_batch(group and batch_of(*(utterance(n) for n in group)))
    brain.on_stage_end(Stage.TRAIN, 0.0, 1)
    (row,) = hparams["run_log"].rows
    del row["stage"]
    return {name: value.clone() for name, value in model.state_dict().items()}, row


def utterance(number):
    return example(number, 0.2 + 0.1 * number, TEXTS[number % len(TEXTS)])


def work(rank, folder, model):
    """Run all cases on one of two ranks."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}  # as torchrun does
    where = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    found = {name: step(copy.deepcopy(model), STEPS[name][rank]) for name in STEPS}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def model(make_model):
    pretrained = make_model()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return CTCModel(
            frontend=pretrained.frontend,
            encoder=pretrained.encoder,
            num_tokens=len(TOKENS),
            dropout=0.0,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture
def found(folder, model):
    """Results of the two ranks, which are started once."""
    if not (folder / "0.pt").exists():
        on_two_ranks(work, folder, model)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_equals_that_of_one_process_on_the_joined_batch(name, found, model):
    joined = tuple(n for rank in STEPS[name] for group in rank if group for n in group)
    weights, row = step(copy.deepcopy(model), [joined])
    moved = max((weights[k] - v).abs().max() for k, v in model.state_dict().items())
    assert moved > 1e-3
    for rank in (0, 1):
        ours, figures = found[rank][name]
        for key, value in weights.items():
            torch.testing.assert_close(ours[key], value, atol=1e-6, rtol=0)
        assert figures == pytest.approx(row, rel=1e-5)
