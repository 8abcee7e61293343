"""A step of two gloo ranks equals one process on the joined batch."""

import copy
import math
import os
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from gloo_ranks import on_two_ranks
from small_brains import Masks, batch_of, example, no_speech, pretraining
from speechbrain.core import Stage
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq import distributed
from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.brains.label_fitting import LabelFitting
from speechbrain_birq.brains.schedules import Ramp
from speechbrain_birq.config.keys import PER_MACHINE
from speechbrain_birq.decoding.decoders import ErrorCounter
from speechbrain_birq.distributed import (
    check_same,
    check_same_settings,
    gathered,
    total,
    warn_of_restarts,
)
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.label_terms import Reconstruction, UsageEntropy
from speechbrain_birq.models.labels.quantizer import Codebook

# Micro-batches of each rank, as numbers of utterances; None: the rank has no batch.
A, B, C, D = (1, 2), (3,), (4, 5, 6), (7,)
SIZES = dict(num_codebooks=1, num_codes=16)
TERMS = [
    UsageEntropy(weight=1.0, **SIZES),
    Reconstruction(weight=1.0, output_dim=40, **SIZES),
]
STEPS = {
    "one codebook": ({}, [[A], [B]]),
    "four codebooks": (dict(num_codebooks=4, shared_head=False), [[A], [C]]),
    "accumulation": ({}, [[A, B], [C, D]]),
    "BEST-RQ": (dict(), [[C], [B]]),
    "no batch": ({}, [[C], [None]]),
    "no batch for the first rank": (dict(shared_head=False), [[None], [A]]),
    "no batch within a step": ({}, [[A, None], [None, D]]),
    "gradient through the labels": (dict(gradient=True), [[A], [B]]),
    "statistics of all ranks": (dict(label_norm="channel"), [[A], [C]]),
    "statistics and gradient": (dict(label_norm="channel", gradient=True), [[A], [C]]),
    "label terms": (dict(label_terms=TERMS), [[A], [C]]),
    "no batch in the label terms": (dict(label_terms=TERMS), [[None], [C]]),
    "batch normalization": (dict(kind="block_conformer"), [[A], [C]]),
    "no batch in the statistics": (dict(label_norm="channel"), [[None], [C]]),
    "no batch in the normalization": (dict(kind="block_conformer"), [[A], [None]]),
}
SPLIT = [[A, C], [B]]  # validation batches of each rank
VALIDATIONS = {
    "validation": {},
    "validation with noise": dict(mask_noise_std=0.1, noise=True),
    "validation with statistics": dict(label_norm="channel"),
}
MODELS = "models.pt"  # a file: a fork server is sent 256 tensors at most
FITTED = ("conformer", "block_conformer")
SETTINGS = "lr: {}\ndata_folder: /scratch/{}\n"
NAMES = ["utterance-1", "utterance-2", "utterance-3"]


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def fused(parameters):
    return torch.optim.AdamW(parameters, lr=1.0, fused=True)


def brain_of(model, accumulation=1, best_rq=False, opt_class=sgd):
    """Return a Brain whose SGD step of rate 1 shows the gradient."""
    hparams = pretraining()
    if best_rq:
        hparams["enhanced_weight"] = Ramp(value=0.0)
    options = {"grad_accumulation_factor": accumulation, "max_grad_norm": 1e9}
    options |= {"distributed_backend": "gloo", "device": "cpu"}
    brain = BiRQBrain(
        modules={"model": model},
        opt_class=opt_class,
        hparams=hparams,
        run_opts=RunOptions.from_dictionary(options),
        masks=Masks(),
        speech=no_speech,
    )
    brain.on_fit_start()
    brain.modules.train()
    brain.checkpointer = SimpleNamespace(save_and_keep_only=lambda **kwargs: None)
    return brain


def batches(groups):
    """Return batches of utterances of different lengths."""
    return [
        group and batch_of(*(example(n, seconds=0.2 + 0.1 * n) for n in group))
        for group in groups
    ]


def step(model, groups, **settings):
    """Make one step; return the weights and the report."""
    brain = brain_of(model, accumulation=len(groups), **settings)
    brain.num_batches = len(groups)
    for brain.step, batch in enumerate(batches(groups), 1):
        brain.fit_batch(batch)
    (row,) = brain.hparams.run_log.rows
    state = {name: value.clone() for name, value in brain.model.state_dict().items()}
    return {"weights": state, "row": row}


def validate(model, groups, trained):
    """Return the figures of a validation; first make a step if that sets statistics."""
    brain = brain_of(model)
    brain.num_batches = brain.step = 1
    if model.label_norm.kind == "channel":
        brain.fit_batch(*batches([trained]))
    brain.modules.eval()
    brain.on_stage_start(Stage.VALID, 1)
    for batch in batches(groups):
        brain.evaluate_batch(batch, Stage.VALID)
    brain.on_stage_end(Stage.VALID, 0.0, 1)
    return brain.hparams.run_log.rows[-1]


def count_errors(names):
    """Return the error rates and utterances of all ranks."""
    counter = ErrorCounter()
    for name in names:
        counter.append([name], [f"{name[-1]} B"], ["A B"])
    counter.gather()
    return counter.rates(), counter.utterances()


def refused_codebook(model, rank):
    """Return the message if the second rank has another codebook."""
    if rank == 1:
        model.anchor_quantizer.projection[0, 0, 0] += 1
    try:
        check_same(model)
    except BadInput as error:
        return str(error)


def refused_settings(rank, lr):
    """Return the message for these settings; each machine has its own folder."""
    try:
        check_same_settings(SETTINGS.format(lr, rank), PER_MACHINE)
    except BadInput as error:
        return str(error)


def skipped(model, rank, opt_class):
    """Return the message if the second rank's batch makes the step non-finite.

    With it, return whether the weights are what they were.
    """
    brain = brain_of(model, opt_class=opt_class)
    before = copy.deepcopy(brain.model.state_dict())
    brain.num_batches = brain.step = 1
    brain.nonfinite_count = brain.nonfinite_patience = 0
    (batch,) = batches([(A, B)[rank]])
    if rank == 1:
        batch.sig.data[:] = math.nan
    try:
        brain.fit_batch(batch)
    except BadInput as error:
        after = brain.model.state_dict()
        return str(error), all(
            torch.equal(after[name], before[name]) for name in before
        )


def fitted_codes(model, rank):
    """Return the codes that the first rank fits, while the other one waits for them."""
    codebook = Codebook(num_codes=8, code_dim=4, seed=0)
    model.enhanced_quantizer = FittedQuantizer(
        input_dim=16, codebook=codebook, seed=1, codes="centroids"
    )
    speech = torch.randn(48_000, generator=torch.Generator().manual_seed(0))
    LabelFitting(seconds=3, batch_seconds=3)(model, 0, lambda: iter([speech]))
    return model.enhanced_quantizer.codebook.codes


def work(rank, folder):
    """Run all cases on one of two ranks."""
    torch.set_num_threads(1)
    models = torch.load(folder / MODELS, weights_only=False)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}  # as torchrun does
    where = f"file://{folder}/rendezvous"
    # Ranks that wait for each other in vain shall fail, not hang.
    wait = timedelta(seconds=60)
    dist.init_process_group(
        "gloo", init_method=where, rank=rank, world_size=2, timeout=wait
    )
    found = {
        name: step(models[name], groups[rank], best_rq=name == "BEST-RQ")
        for name, (_, groups) in STEPS.items()
    }
    for name in VALIDATIONS:
        found[name] = validate(models[name], SPLIT[rank], (A, C)[rank])
    found["errors"] = count_errors(NAMES[rank::2])
    found["codebook"] = refused_codebook(models["codebook"], rank)
    found["settings"] = [refused_settings(rank, lr) for lr in (1, 1 + rank)]
    for opt_class in (sgd, fused):
        name = f"skipped, {opt_class.__name__}"
        found[name] = skipped(models[name], rank, opt_class)
    for kind in FITTED:
        found[kind] = fitted_codes(models[kind], rank)
    found["gathered"] = gathered(rank), total(torch.tensor(rank + 1.0))
    brain = brain_of(models["random"])
    found["random"] = torch.rand(8), torch.rand(8, generator=brain.generator)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture
def fresh(make_model):
    """fresh(case): the untrained model of a case."""

    def make(name):
        settings = dict(noise=False, mask_noise_std=0.0, gradient=False)
        more = STEPS[name][0] if name in STEPS else VALIDATIONS.get(name, {})
        if name in FITTED:
            more = dict(kind=name)
        return make_model(**copy.deepcopy(settings | more))

    return make


@pytest.fixture
def found(folder, fresh):
    """Results of the two ranks, which are started once."""
    if not (folder / "0.pt").exists():
        names = [*STEPS, *VALIDATIONS, *FITTED, "codebook", "random"]
        names += ["skipped, sgd", "skipped, fused"]
        models = {name: fresh(name) for name in names}
        torch.save(models, folder / MODELS)
        on_two_ranks(work, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_equals_that_of_one_process_on_the_joined_batch(name, found, fresh):
    groups = STEPS[name][1]
    joined = tuple(n for rank in groups for group in rank if group for n in group)
    expected = step(fresh(name), [joined], best_rq=name == "BEST-RQ")
    for rank in (0, 1):
        one = found[rank][name]
        for key, value in expected["weights"].items():
            torch.testing.assert_close(one["weights"][key], value, atol=1e-6, rtol=0)
        for key in expected["row"].keys() - {"stage", "frames_per_second", "padding"}:
            value = expected["row"][key]
            assert one["row"][key] == pytest.approx(value, rel=1e-5), key


@pytest.mark.parametrize("name", VALIDATIONS)
def test_a_validation_over_two_ranks_equals_that_of_one_process(name, found, fresh):
    expected = validate(fresh(name), [A, B, C], A + C)
    assert expected.pop("stage") == "valid"
    assert expected["anchor_used_codes"] > 3
    for rank in (0, 1):
        figures = {key: found[rank][name][key] for key in expected}
        assert figures == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", FITTED)
def test_codes_that_the_first_rank_fits_are_those_of_a_single_process(
    kind, found, fresh
):
    expected = fitted_codes(fresh(kind), 0)
    for rank in (0, 1):
        torch.testing.assert_close(found[rank][kind], expected, atol=1e-5, rtol=0)


def test_error_rates_count_the_utterances_of_all_ranks(found):
    expected = count_errors(NAMES)
    assert [row["id"] for row in expected[1]] == NAMES
    assert found[0]["errors"] == found[1]["errors"] == expected


def test_another_codebook_is_refused_on_every_rank(found):
    first, second = (found[rank]["codebook"] for rank in (0, 1))
    assert first == second
    assert "rank 1" in first and "anchor_quantizer.projection" in first


def test_other_settings_are_refused_on_every_rank(found):
    for rank in (0, 1):
        same, other = found[rank]["settings"]
        assert same is None
        assert re.search("rank 1 .*lr: 2, rank 0 .*1:", other)


@pytest.mark.parametrize("optimizer", ["sgd", "fused"])
def test_a_skipped_step_names_the_utterances_of_all_ranks(found, optimizer):
    for rank in (0, 1):
        message, unmoved = found[rank][f"skipped, {optimizer}"]
        assert ", ".join(NAMES) in message
        assert unmoved


@pytest.mark.parametrize(
    "one, other",
    [
        ("!name:torch.optim.AdamW {lr: 1}", "!name:torch.optim.SGD {lr: 1}"),
        ("!name:torch.optim.AdamW", "!name:torch.optim.SGD"),
        ("[!new:a.B {}]", "[!new:a.C {}]"),
        ("{part: {inner: !ref <a>}}", "{part: {inner: !ref <b>}}"),
    ],
)
def test_another_class_is_another_setting(one, other, monkeypatch):
    texts = [f"part: {one}", f"part: {other}"]
    known = []
    monkeypatch.setattr(distributed, "gathered", lambda value: [value])
    check_same_settings(texts[0], frozenset())
    monkeypatch.setattr(distributed, "gathered", lambda v: known.append(v) or [*known])
    check_same_settings(texts[0], frozenset())
    with pytest.raises(BadInput, match="rank 1 was started with part"):
        check_same_settings(texts[1], frozenset())


def test_dropout_and_noise_differ_between_ranks(found):
    for first, second in zip(found[0]["random"], found[1]["random"], strict=True):
        assert not torch.equal(first, second)


def test_values_are_gathered_in_the_order_of_ranks_and_summed(found):
    for rank in (0, 1):
        values, summed = found[rank]["gathered"]
        assert values == [0, 1]
        assert summed == 3


def test_a_single_process_gathers_its_own_values():
    assert gathered("x") == ["x"]
    assert total(torch.tensor(2.0)) == 2
    check_same(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "restarts, share, warns", [(3, "0", 1), (3, "1", 0), (0, "", 0)]
)
def test_restarts_without_the_variable_are_warned_of(
    monkeypatch, caplog, restarts, share, warns
):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", str(restarts))
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", share)
    warn_of_restarts()
    assert caplog.text.count("export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1") == warns
