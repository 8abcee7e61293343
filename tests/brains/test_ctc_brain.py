"""Fine-tuning: two rates, freezing, error rates."""

import csv
import errno
import json

import pytest
import speechbrain as sb
import torch
from small_brains import (
    SPOKEN,
    Batches,
    Nowhere,
    batch_of,
    example,
    feed,
    moved,
    parameters,
    validate,
)

from speechbrain_birq.brains.ctc import Transfer, check_test_splits
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics import compare_runs


@pytest.mark.parametrize("rate, expected", [(0.02, [0.02, 0.05]), (None, [0.05] * 2)])
def test_a_pretrained_encoder_has_a_rate_of_its_own(make_ctc, rate, expected):
    groups = make_ctc(transfer=Transfer(lr_encoder=rate)).optimizer.param_groups
    assert [group["lr"] for group in groups] == expected


@pytest.mark.parametrize("freeze_steps", [0, 3])
def test_ranks_look_for_unused_parameters_if_the_encoder_is_frozen(
    make_ctc, freeze_steps
):
    brain = make_ctc(transfer=Transfer(freeze_steps=freeze_steps))
    assert brain.find_unused_parameters is (freeze_steps > 0)


def test_a_resumed_epoch_reports_the_mean_loss_of_all_of_it(make_ctc):
    straight, first, resumed = (make_ctc(checkpointer=Nowhere()) for _ in range(3))
    feed(straight, *map(batch_of, SPOKEN))
    feed(first, *map(batch_of, SPOKEN[:2]))
    resumed.model.load_state_dict(first.model.state_dict())
    resumed.set_rank_state(first.rank_state(), end_of_epoch=False)
    resumed.on_stage_start(sb.Stage.TRAIN, 1)
    resumed.optimizer_step = resumed.step = 2
    feed(resumed, batch_of(SPOKEN[2]))
    for brain in (straight, resumed):
        brain.on_stage_end(sb.Stage.TRAIN, 0.0, 1)
    rows = [brain.hparams.run_log.rows for brain in (straight, resumed)]
    assert rows[0] == rows[1]


def test_the_next_epoch_reports_a_mean_of_its_own(make_ctc):
    still = dict(opt_class=lambda p: torch.optim.SGD(p, lr=0.0), transfer=Transfer())
    brain = make_ctc(**still)
    for epoch in (1, 2):
        brain.on_stage_start(sb.Stage.TRAIN, epoch)
        feed(brain, batch_of(SPOKEN[0] if epoch == 1 else SPOKEN[1]))
        brain.on_stage_end(sb.Stage.TRAIN, 0.0, epoch)
    first, second = (row["loss"] for row in brain.hparams.run_log.rows)
    assert first != pytest.approx(second)
    (alone,) = feed(brain, batch_of(SPOKEN[1]))
    assert second == pytest.approx(alone.item(), rel=1e-5)


def test_both_groups_of_ctc_follow_the_schedule(make_ctc):
    brain = make_ctc(lr_schedule=lambda step, epochs: 1 / (step + 1))
    for step in (1, 2, 3):
        feed(brain, batch_of(SPOKEN[0]))
        rates = [group["lr"] for group in brain.optimizer.param_groups]
        assert rates == pytest.approx([0.02 / step, 0.05 / step])


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


def test_a_rate_of_0_keeps_all_of_the_pretrained_layers(make_ctc):
    transfer = Transfer(lr_encoder=0.0, fresh_layers=1)
    brain = make_ctc(kind="block_conformer", transfer=transfer)
    names = [n for n in brain.model.state_dict() if "num_batches" not in n]

    def state():
        return {n: brain.model.state_dict()[n].clone() for n in names}

    before = state()
    feed(brain, batch_of(*SPOKEN))
    changed = moved(before, state())
    old = ("frontend.", "encoder.input.", "encoder.layers.0.")
    assert not [name for name in changed if name.startswith(old)]
    assert "encoder.layers.1.convolution.batch_norm.running_mean" in changed


def test_layers_with_a_rate_of_0_take_no_part_in_backward_and_clipping(make_ctc):
    transfer = Transfer(lr_encoder=0.0, fresh_layers=1)
    brain = make_ctc(kind="block_conformer", transfer=transfer, max_grad_norm=1e-3)
    gradients = {}

    def keep(*_):
        gradients.update({n: p.grad for n, p in brain.model.named_parameters()})

    brain.optimizer.register_step_pre_hook(keep)
    feed(brain, batch_of(*SPOKEN))
    old = ("encoder.input.", "encoder.layers.0.")
    learnt = {n: g for n, g in gradients.items() if not n.startswith(old)}
    assert {n for n, g in gradients.items() if g is None} == gradients.keys() - learnt
    norm = torch.stack([g.norm() for g in learnt.values()]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_a_frozen_encoder_stays_in_eval_mode_after_validation(make_ctc):
    brain = make_ctc(transfer=Transfer(0.02, freeze_steps=5), checkpointer=Nowhere())
    feed(brain, batch_of(*SPOKEN))
    validate(brain, batch_of(*SPOKEN))
    brain.modules.train()
    assert not brain.model.encoder.training
    assert brain.model.head.training


def test_ctc_validation_reports_error_rates(make_ctc):
    brain = make_ctc(checkpointer=Nowhere())
    row = validate(brain, batch_of(*SPOKEN[:2]), batch_of(SPOKEN[2]))
    joined = validate(brain, batch_of(*SPOKEN))
    assert row["loss"] == pytest.approx(joined["loss"], rel=1e-5)
    assert {k: row[k] for k in ("wer", "cer")} == {k: joined[k] for k in ("wer", "cer")}
    assert brain.checkpointer.saved[-1]["min_keys"] == ("cer",)


def test_a_validation_of_ctc_begins_anew(make_ctc):
    brain = make_ctc(checkpointer=Nowhere())
    alone = validate(brain, batch_of(SPOKEN[0]))
    assert validate(brain, batch_of(SPOKEN[1]))["loss"] != pytest.approx(alone["loss"])
    assert validate(brain, batch_of(SPOKEN[0])) == alone


@pytest.mark.faults
def test_a_nested_split_is_scored_in_utf_8(make_ctc, tmp_path):
    brain = make_ctc(output_folder=str(tmp_path))
    spoken = example(1, text="AB") | {"id": "größe"}
    brain.score("en/test", Batches([batch_of(spoken)]))
    assert "größe" in (tmp_path / "wer_en_test.txt").read_text("utf-8")
    assert "größe" in (tmp_path / "errors_en_test.csv").read_text("utf-8")
    first, *_ = compare_runs(tmp_path, tmp_path, "en/test", "cer")
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert results["en/test"]["cer"] == pytest.approx(first, abs=1e-3)


@pytest.mark.faults
def test_scores_are_replaced_when_they_are_complete(make_ctc, tmp_path, monkeypatch):
    brain, path = make_ctc(output_folder=str(tmp_path)), tmp_path / "errors_test.csv"
    brain.score("test", Batches([batch_of(*SPOKEN)]))
    before = path.read_text()

    def full(*rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", full)
    with pytest.raises(OSError, match="No space left"):
        brain.score("test", Batches([batch_of(SPOKEN[0])]))
    assert path.read_text() == before


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


@pytest.mark.parametrize(
    "name", ["seconds", "steps", "valid", "lm_weights", "layer_weights"]
)
def test_a_test_split_cannot_be_called_like_a_figure_of_the_run(name):
    with pytest.raises(BadInput, match=f"a figure '{name}'"):
        check_test_splits(["test", name])
