"""The training loops, each of SpeechBrain's own BEST-RQ traps held shut by a test."""

import copy
import json
import logging
import math

import pytest
import speechbrain as sb
import torch
from small_brains import (
    HOP,
    SPOKEN,
    UNEQUAL,
    Batches,
    assert_same,
    batch_of,
    example,
    feed,
    moved,
    parameters,
)
from speechbrain.utils.run_opts import RunOptions
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_birq.brains.ctc import Transfer
from speechbrain_birq.brains.label_fitting import LabelFitting
from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.brains.schedules import Ramp, WarmupDecay
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.curves import read_metrics
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder

# Trap 1: run options of the YAML.

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


# Traps 15, 24: sums, one division, nothing left over.


def joined_and_split(make, examples):
    joined, split = make(), make(grad_accumulation_factor=2)
    before = parameters(joined)
    feed(joined, batch_of(*examples))
    feed(split, batch_of(*examples[:2]), batch_of(*examples[2:]))
    assert joined.optimizer_step == split.optimizer_step == 1
    assert moved(before, parameters(joined))
    return joined, split


@pytest.mark.parametrize("num_codebooks", [1, 4])
@pytest.mark.parametrize("gradient", [True, False])
def test_unequal_micro_batches_step_like_their_joined_batch(
    make_brain, num_codebooks, gradient
):
    joined, split = joined_and_split(
        lambda **more: make_brain(
            {"num_codebooks": num_codebooks, "gradient": gradient}, **more
        ),
        UNEQUAL,
    )
    assert_same(parameters(joined), parameters(split))
    assert torch.allclose(joined.grad_norm, split.grad_norm, rtol=1e-4)


def test_unequal_micro_batches_of_ctc_step_like_their_joined_batch(make_ctc):
    joined, split = joined_and_split(make_ctc, SPOKEN)
    assert_same(parameters(joined), parameters(split))


def test_gradient_is_the_mean_over_masked_frames_not_over_batches(make_brain):
    """Two batches of 1 and 9 masked frames weigh 1 to 9."""
    few, many = example(1, 0.3), example(2, 0.3)
    few["mask"][:], many["mask"][:] = False, False
    few["mask"][3], many["mask"][2:11] = True, True
    gradients = []
    for examples in ([few], [many]):
        brain = make_brain(max_grad_norm=-1.0)
        start = parameters(brain)
        feed(brain, batch_of(*examples))
        gradients.append({n: start[n] - p for n, p in parameters(brain).items()})
    brain = make_brain(max_grad_norm=-1.0, grad_accumulation_factor=2)
    start = parameters(brain)
    feed(brain, batch_of(few), batch_of(many))
    for name, value in parameters(brain).items():
        expected = 0.1 * gradients[0][name] + 0.9 * gradients[1][name]
        assert torch.allclose(start[name] - value, expected, atol=1e-6), name


@pytest.mark.parametrize("kind", ["birq", "ctc"])
def test_a_micro_batch_left_over_makes_its_own_step(make_brain, make_ctc, kind):
    make, examples = (make_brain, UNEQUAL) if kind == "birq" else (make_ctc, SPOKEN)
    batches = [batch_of(e) for e in examples]
    left_over = make(grad_accumulation_factor=2)
    left_over.num_batches = 3
    feed(left_over, *batches)
    assert left_over.optimizer_step == 2

    expected = make(grad_accumulation_factor=2)
    feed(expected, *batches[:2])
    expected.grad_accumulation_factor = 1
    feed(expected, batches[2])
    assert_same(parameters(left_over), parameters(expected))


def test_left_over_micro_batches_do_not_leak_into_the_next_epoch(make_brain):
    brain = make_brain(grad_accumulation_factor=2)
    brain._fit_train(Batches([batch_of(e) for e in UNEQUAL]), 1, False)
    assert brain.optimizer_step == 2
    assert brain.num_items == 0 and brain.pending_ids == []
    assert all(p.grad is None for p in brain.model.parameters())


# Trap 22: clipping.


@pytest.mark.parametrize("kind", ["birq", "ctc"])
def test_all_parameter_groups_are_clipped_together(make_brain, make_ctc, kind):
    limit = 1e-3
    if kind == "birq":
        brain = make_brain(max_grad_norm=limit)
        rates = {name: 0.05 for name in parameters(brain)}
        batch = batch_of(*UNEQUAL)
    else:
        brain = make_ctc(max_grad_norm=limit)
        assert [g["lr"] for g in brain.optimizer.param_groups] == [0.02, 0.05]
        rates = {
            name: 0.02 if name.startswith("encoder") else 0.05
            for name in parameters(brain)
        }
        batch = batch_of(*SPOKEN)
    start = parameters(brain)
    feed(brain, batch)
    assert brain.grad_norm > 10 * limit
    clipped = [(start[n] - p) / rates[n] for n, p in parameters(brain).items()]
    norms = torch.stack([g.double().norm() for g in clipped])
    assert math.isclose(norms.norm().item(), limit, rel_tol=1e-2)
    assert (norms > 0).sum() > len(norms) / 2


def test_no_clipping_below_the_limit_or_when_switched_off(make_brain):
    free, wide = make_brain(max_grad_norm=-1.0), make_brain(max_grad_norm=1e6)
    for brain in (free, wide):
        feed(brain, batch_of(*UNEQUAL))
    assert_same(parameters(free), parameters(wide), 0.0)


# Trap 25: what is not finite.


def broken(number):
    bad = example(number)
    bad["sig"][1000] = math.nan
    return bad


@pytest.mark.parametrize("label_norm", ["layer", "channel"])
def test_a_step_that_is_not_finite_is_skipped_whole(make_brain, caplog, label_norm):
    brain = make_brain(
        {"label_norm": label_norm}, opt_class=lambda p: torch.optim.AdamW(p, lr=0.01)
    )
    feed(brain, batch_of(*UNEQUAL))
    start, statistics = parameters(brain), copy.deepcopy(brain.model.state_dict())
    with caplog.at_level(logging.WARNING):
        (loss,) = feed(brain, batch_of(UNEQUAL[0], broken(8)))
    assert not torch.isfinite(loss)
    assert not moved(start, parameters(brain))
    assert brain.nonfinite_count == 1
    assert "utterance-1, utterance-8" in caplog.text
    for name, value in brain.model.state_dict().items():
        assert torch.equal(value, statistics[name]), name
    feed(brain, batch_of(*UNEQUAL))
    assert moved(start, parameters(brain))
    assert all(torch.isfinite(p).all() for p in brain.model.parameters())


def test_a_bad_micro_batch_skips_the_good_ones_of_its_step_only(make_brain):
    brain, good = make_brain(grad_accumulation_factor=2), make_brain()
    feed(brain, batch_of(UNEQUAL[0]), batch_of(broken(8)))
    feed(brain, batch_of(*UNEQUAL[:2]), batch_of(*UNEQUAL[2:]))
    feed(good, batch_of(*UNEQUAL))
    assert_same(parameters(brain), parameters(good))


def test_ctc_skips_a_step_that_is_not_finite(make_ctc):
    brain = make_ctc()
    start = parameters(brain)
    bad = example(8, 0.4, "AB")
    bad["sig"][50] = math.inf
    feed(brain, batch_of(SPOKEN[0], bad))
    assert brain.nonfinite_count == 1
    assert not moved(start, parameters(brain))


def test_training_stops_after_too_many_skipped_steps(make_brain):
    brain = make_brain(nonfinite_patience=2)
    feed(brain, batch_of(broken(5)), batch_of(broken(6)))
    with pytest.raises(BadInput, match=r"3 steps .*nonfinite_patience 2.*utterance-7"):
        feed(brain, batch_of(broken(7)))


def test_patience_is_counted_anew_in_every_epoch(make_brain):
    brain = make_brain(nonfinite_patience=1)
    for epoch in (1, 2, 3):
        brain._fit_train(Batches([batch_of(broken(5)), batch_of(UNEQUAL[0])]), epoch, 0)
    assert brain.optimizer_step == 6


# Trap 10: precision.


def test_bfloat16_trains_with_float32_labels(make_brain):
    full, half = (
        make_brain({"num_codebooks": 4}, precision=p) for p in ("fp32", "bf16")
    )
    objectives = [brain.inner_step(batch_of(*UNEQUAL)) for brain in (full, half)]
    assert torch.equal(objectives[0].anchor_codes, objectives[1].anchor_codes)
    assert objectives[1].anchor_loss.dtype == torch.float32
    assert not torch.equal(objectives[0].anchor_loss, objectives[1].anchor_loss)
    assert torch.allclose(
        objectives[0].anchor_loss, objectives[1].anchor_loss, rtol=0.05
    )
    start = parameters(half)
    losses = feed(half, *[batch_of(*UNEQUAL)] * 3)
    assert all(torch.isfinite(loss) for loss in losses)
    # One shared output layer and no label path: every parameter learns.
    assert moved(start, parameters(half)) == start.keys()


def test_labels_are_computed_in_float32_whatever_the_precision(make_brain):
    brain, seen = make_brain({"label_norm": "channel"}, precision="bf16"), {}
    quantizer, selector = brain.model.enhanced_quantizer, brain.model.selector
    original = quantizer.distances
    quantizer.distances = lambda z: seen.setdefault("distances", original(z))
    selector.register_forward_hook(lambda m, i, o: seen.setdefault("labels", o))
    feed(brain, batch_of(*UNEQUAL))
    assert {name: value.dtype for name, value in seen.items()} == dict.fromkeys(
        ("distances", "labels"), torch.float32
    )


def test_ctc_in_bfloat16_is_finite(make_ctc):
    brain = make_ctc(precision="bf16")
    assert torch.isfinite(torch.stack(feed(brain, *[batch_of(*SPOKEN)] * 2))).all()


# Schedules.


def test_schedules_reach_the_optimiser_and_the_weights(make_brain):
    brain = make_brain(
        lr_schedule=WarmupDecay(warmup_steps=3, total_steps=5),
        enhanced_weight=Ramp(value=2.0, steps=4),
        anchor_weight=Ramp(value=1.5),
        label_fitting=LabelFitting(seconds=1, batch_seconds=1),
    )
    seen = []
    for _ in range(6):
        weights = brain.weights(brain.optimizer_step)
        feed(brain, batch_of(UNEQUAL[1]))
        seen.append((brain.optimizer.param_groups[0]["lr"], *weights))
    rates, upper, lower = zip(*seen, strict=True)
    assert rates == pytest.approx([0.05 * f for f in (1 / 3, 2 / 3, 1, 1, 0.5, 0)])
    assert upper == (0.0, 0.5, 1.0, 1.5, 2.0, 2.0)
    assert set(lower) == {1.5}
    rows = brain.hparams.run_log.rows
    assert [row["step"] for row in rows] == list(range(6))
    assert [row["lr"] for row in rows] == pytest.approx(rates)


def test_the_reported_loss_is_the_one_that_was_minimised(make_brain):
    brain = make_brain(enhanced_weight=Ramp(value=2.0, steps=2))
    for _ in range(3):
        w_enhanced, w_anchor = brain.weights(brain.optimizer_step)
        (loss,) = feed(brain, batch_of(*UNEQUAL))
        row = brain.hparams.run_log.rows[-1]
        expected = w_enhanced * row["F"] + w_anchor * row["G"]
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_both_groups_of_ctc_follow_the_schedule(make_ctc):
    brain = make_ctc(lr_schedule=lambda step, epochs: 1 / (step + 1))
    for step in (1, 2, 3):
        feed(brain, batch_of(SPOKEN[0]))
        rates = [group["lr"] for group in brain.optimizer.param_groups]
        assert rates == pytest.approx([0.02 / step, 0.05 / step])


def test_epochs_count_in_fractions(make_brain):
    brain = make_brain()
    brain.hparams.epoch_counter.current, brain.num_batches, brain.step = 3, 8, 2
    assert brain.epochs_done() == 2.25


def test_masks_follow_the_epoch(make_brain):
    brain = make_brain()
    for epoch in (1, 2):
        brain.on_stage_start(sb.Stage.TRAIN, epoch)
        assert brain.masks.epoch == epoch


# Trap 16: validation.


class Nowhere:
    """A checkpointer that only remembers what it was told."""

    def __init__(self):
        self.saved = []

    def add_recoverable(self, *args, **kwargs):
        pass

    def recover_if_possible(self, *args, **kwargs):
        pass

    def save_and_keep_only(self, **kwargs):
        self.saved.append(kwargs)


def validate(brain, *batches):
    brain._fit_valid(Batches(list(batches)), 1, False)
    return brain.hparams.run_log.stage("valid")[-1]


def test_validation_repeats_itself(make_brain):
    brain = make_brain({"noise": True, "mask_noise_std": 0.1}, checkpointer=Nowhere())
    batches = batch_of(*UNEQUAL[:2]), batch_of(UNEQUAL[2])
    training, before = brain.generator.get_state(), parameters(brain)
    first = validate(brain, *batches)
    torch.rand(7)
    assert validate(brain, *batches) == first
    assert torch.equal(brain.generator.get_state(), training)
    assert not moved(before, parameters(brain))


def test_validation_weighs_frames_not_batches(make_brain):
    brain = make_brain({"num_codebooks": 2}, checkpointer=Nowhere())
    batches = batch_of(*UNEQUAL[:2]), batch_of(UNEQUAL[2])
    row = validate(brain, *batches)
    brain.modules.eval()
    with torch.no_grad():
        parts = [brain.compute_forward(b, sb.Stage.VALID) for b in batches]
    frames = sum(p.num_frames.item() for p in parts)
    assert len({p.num_frames.item() for p in parts}) == 2
    for name, field in (
        ("G", "anchor_loss"),
        ("F", "enhanced_loss"),
        ("anchor_accuracy", "anchor_correct"),
        ("enhanced_accuracy", "enhanced_correct"),
    ):
        total = sum(getattr(p, field).double().mean().item() for p in parts)
        assert row[name] == pytest.approx(total / frames, rel=1e-6)
    assert row["loss"] == pytest.approx(0.7 * row["F"] + 1.3 * row["G"], rel=1e-6)
    assert brain.checkpointer.saved[-1]["meta"]["loss"] == row["loss"]


def test_validation_leaves_the_training_figures_alone(make_brain):
    brain = make_brain(checkpointer=Nowhere(), log_interval=2)
    feed(brain, batch_of(UNEQUAL[0]), batch_of(UNEQUAL[1]))
    feed(brain, batch_of(UNEQUAL[0]))
    validate(brain, batch_of(*UNEQUAL))
    assert brain.reports[sb.Stage.TRAIN].num_batches == 1
    feed(brain, batch_of(UNEQUAL[2]))
    rows = brain.hparams.run_log.stage("train")
    assert [row["step"] for row in rows] == [0, 1, 3]


def test_ctc_validation_reports_error_rates(make_ctc):
    brain = make_ctc(checkpointer=Nowhere())
    row = validate(brain, batch_of(*SPOKEN[:2]), batch_of(SPOKEN[2]))
    joined = validate(brain, batch_of(*SPOKEN))
    assert row["loss"] == pytest.approx(joined["loss"], rel=1e-5)
    assert {k: row[k] for k in ("wer", "cer")} == {k: joined[k] for k in ("wer", "cer")}
    assert brain.checkpointer.saved[-1]["min_keys"] == ("cer",)


def test_ctc_scores_a_split_into_the_run_folder(make_ctc, tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path / "save")
    brain = make_ctc(checkpointer=checkpointer, output_folder=str(tmp_path))
    checkpointer.add_recoverable("model", brain.model)
    brain._fit_valid(Batches([batch_of(*SPOKEN)]), 1, False)
    result = brain.score("test", Batches([batch_of(*SPOKEN[:2]), batch_of(SPOKEN[2])]))
    assert result["utterances"] == 3
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == {"test": result}
    rows = (tmp_path / "errors_test.csv").read_text().splitlines()
    assert rows[0] == "id,word_errors,words,character_errors,characters"
    assert len(rows) == 4
    words = sum(int(row.split(",")[1]) for row in rows[1:])
    total = sum(int(row.split(",")[2]) for row in rows[1:])
    assert result["wer"] == pytest.approx(100 * words / total, abs=1e-3)
    assert "%WER" in (tmp_path / "wer_test.txt").read_text()


# Trap 17: collapse is told, usage is logged from step 0.


def test_step_0_reports_what_the_labels_are_worth(make_brain):
    brain = make_brain({"num_codebooks": 2}, log_interval=100)
    feed(brain, batch_of(*UNEQUAL))
    (row,) = brain.hparams.run_log.rows
    assert row["step"] == 0
    for kind in ("anchor", "enhanced"):
        assert 1 <= row[f"{kind}_perplexity"] <= row[f"{kind}_used_codes"] + 1e-9
        assert row[f"{kind}_used_codes"] <= 16
        assert 1 / 16 <= row[f"{kind}_top_share"] <= 1
        assert 0 <= row[f"{kind}_accuracy"] <= 1
    assert 0 <= row["agreement"] <= 1
    assert row["mutual_information"] >= -1e-9
    assert row["grad_norm"] > 0 and row["frames_per_second"] > 0
    frames = [(len(e["sig"]) // HOP + 1) // 2 for e in UNEQUAL]
    assert row["padding"] == pytest.approx(1 - sum(frames) / (3 * max(frames)))


def test_best_rq_reports_no_figures_of_labels_it_has_not(make_brain):
    brain = make_brain(enhanced_weight=Ramp(value=0.0))
    assert brain.enhanced is False
    feed(brain, batch_of(*UNEQUAL))
    (row,) = brain.hparams.run_log.rows
    assert "F" not in row and "agreement" not in row
    assert row["loss"] == pytest.approx(1.3 * row["G"])


def test_collapsed_labels_are_told_with_the_remedy(make_brain, caplog):
    brain = make_brain(collapse_perplexity=3.0)
    for parameter in brain.model.encoder.layers.parameters():
        parameter.data.zero_()
    # Layer k gives the same vector for every frame.
    brain.model.encoder.layers[0].norm2.norm.bias.data[0] = 5.0
    with caplog.at_level(logging.WARNING):
        feed(brain, batch_of(*UNEQUAL))
    (row,) = brain.hparams.run_log.rows
    assert row["enhanced_used_codes"] == row["enhanced_perplexity"] == 1
    assert row["enhanced_top_share"] == 1
    warnings = [r.getMessage() for r in caplog.records if "COLLAPSE" in r.getMessage()]
    assert len(warnings) == 1
    for words in ("enhanced labels", "label_gradient: False", "label_norm: channel"):
        assert words in warnings[0]


def test_healthy_labels_raise_no_warning(make_brain, caplog):
    brain = make_brain({"label_norm": "channel"}, collapse_perplexity=1.5)
    feed(brain, batch_of(*UNEQUAL))
    assert "COLLAPSE" not in caplog.text


def test_silent_recordings_raise_the_anchor_warning(make_brain, caplog):
    brain = make_brain(collapse_perplexity=3.0, enhanced_weight=Ramp(value=0.0))
    silent = example(1) | {"sig": torch.zeros(4800)}
    feed(brain, batch_of(silent))
    assert "the anchor labels have a perplexity of 1.0" in caplog.text
    assert "l2_normalize" in caplog.text


# Trap 18: freezing.


def test_a_frozen_encoder_stands_still_then_moves(make_ctc):
    brain = make_ctc(transfer=Transfer(0.02, freeze_steps=2), dropout=0.5)
    batch = batch_of(*SPOKEN)
    start = parameters(brain)
    modes = []
    brain.model.encoder.register_forward_hook(
        lambda module, _, output: modes.append((module.training, output.requires_grad))
    )
    feed(brain, batch, batch)
    assert modes == [(False, False)] * 2
    assert moved(start, parameters(brain)) == {"head.weight", "head.bias"}
    assert all(p.grad is None for p in brain.model.encoder.parameters())
    assert brain.model.training and not brain.model.encoder.layers[0].training
    feed(brain, batch)
    assert modes[-1] == (True, True)
    assert "encoder.input.linear.weight" in moved(start, parameters(brain))


def test_a_frozen_encoder_stays_in_eval_mode_after_validation(make_ctc):
    brain = make_ctc(transfer=Transfer(0.02, freeze_steps=5), checkpointer=Nowhere())
    feed(brain, batch_of(*SPOKEN))
    validate(brain, batch_of(*SPOKEN))
    brain.modules.train()
    assert not brain.model.encoder.training
    assert brain.model.head.training


# Nothing readable.


@pytest.mark.parametrize("kind", ["birq", "ctc"])
def test_batches_without_anything_readable_are_survived(make_brain, make_ctc, kind):
    make, examples = (make_brain, UNEQUAL) if kind == "birq" else (make_ctc, SPOKEN)
    brain = make(checkpointer=Nowhere(), grad_accumulation_factor=2)
    start = parameters(brain)
    losses = feed(brain, None, None)
    assert all(torch.isnan(loss) for loss in losses)
    assert brain.optimizer_step == 0
    assert not moved(start, parameters(brain))
    feed(brain, batch_of(*examples), None)
    assert brain.optimizer_step == 1
    assert moved(start, parameters(brain))
    whole, split = (
        validate(brain, *batches)
        for batches in ([batch_of(*examples)], [None, batch_of(*examples), None])
    )
    assert whole == split


def test_a_batch_without_masked_frames_moves_nothing(make_brain):
    brain = make_brain(opt_class=lambda p: torch.optim.SGD(p, lr=1.0))
    bare = example(1)
    bare["mask"][:] = False
    start = parameters(brain)
    feed(brain, batch_of(bare))
    assert brain.nonfinite_count == 0
    assert not moved(start, parameters(brain))


# It learns.


def test_pretraining_overfits_four_utterances(make_brain):
    brain = make_brain(
        {"num_codes": 8},
        enhanced_weight=Ramp(value=0.0),
        opt_class=lambda p: torch.optim.AdamW(p, lr=5e-3),
    )
    batch = batch_of(*[example(n, 0.4) for n in range(4)])
    losses = torch.stack(feed(brain, *[batch] * 80))
    assert losses[-5:].mean() < 0.5 * losses[:5].mean()
    assert brain.hparams.run_log.rows[-1]["anchor_accuracy"] > 0.7


def test_pretraining_learns_enhanced_labels_too(make_brain):
    brain = make_brain(
        {"num_codes": 8, "label_norm": "channel", "shared_head": False},
        opt_class=lambda p: torch.optim.AdamW(p, lr=5e-3),
    )
    batch = batch_of(*[example(n, 0.4) for n in range(4)])
    feed(brain, *[batch] * 80)
    first, last = brain.hparams.run_log.rows[0], brain.hparams.run_log.rows[-1]
    assert last["G"] < 0.6 * first["G"]
    assert last["F"] < 0.8 * first["F"]
    assert last["enhanced_accuracy"] > 0.5


def test_ctc_reaches_no_errors_on_three_utterances(make_ctc):
    brain = make_ctc(
        transfer=Transfer(),
        opt_class=lambda p: torch.optim.Adam(p, lr=5e-3),
        checkpointer=Nowhere(),
    )
    batch = batch_of(*SPOKEN)
    for _ in range(20):
        brain.on_stage_start(sb.Stage.TRAIN, 1)
        brain.modules.train()
        feed(brain, *[batch] * 15)
        row = validate(brain, batch)
        if row["cer"] == 0:
            break
    assert row["cer"] == row["wer"] == 0


def test_run_log_writes_one_json_line_a_report(tmp_path, make_brain):
    brain = make_brain(run_log=RunLog(tmp_path, tensorboard=False))
    feed(brain, batch_of(*UNEQUAL), batch_of(*UNEQUAL))
    rows = read_metrics(tmp_path, "train")
    assert [row["step"] for row in rows] == [0, 1]
    assert rows[1]["G"] != rows[0]["G"]


def test_compile_takes_the_encoder_for_every_length(make_brain, monkeypatch):
    told = []
    monkeypatch.setattr(
        SpeechBrainEncoder, "compile", lambda _, **how: told.append(how)
    )
    brain = make_brain(run_opts=RunOptions.from_dictionary({"compile": True}))
    assert told == [{"mode": "default", "dynamic": True}]
    assert not isinstance(brain.modules.model, torch._dynamo.OptimizedModule)
    make_brain()
    assert len(told) == 1


class Waits(TorchDispatchMode):
    """Counts what a GPU would have to be waited for."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split("::")[1].split(".")[0]
        if name in self.NAMES:
            self.found.append(name)
        return function(*args, **kwargs or {})


def test_a_step_between_reports_waits_for_the_masks_and_the_gradient_only(make_brain):
    brain = make_brain(dict(gradient=True, noise=True), log_interval=100)
    batches = [batch_of(example(n), example(n + 1)) for n in (0, 2, 4)]
    for batch in batches[:2]:
        brain.fit_batch(batch)
    with Waits() as waits:
        brain.fit_batch(batches[2])
    assert waits.found == ["nonzero", "_local_scalar_dense"]
