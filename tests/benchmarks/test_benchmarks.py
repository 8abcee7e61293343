"""Benchmarks: each measures what it says, and runs at a tiny size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import predict
import pytest
import timing
import torch
from arms import make_audio

from speechbrain_birq.config import flatten

ROOT = Path(__file__).parents[2]


def test_both_systems_mask_the_same_number_of_frames(made):
    audio = make_audio(utterances=3, seconds=2.0)
    mask = made("birq_0.7").batch(audio).mask.data
    *_, samples = made("peer").batch(audio)
    assert mask.sum() == 3 * len(samples) / 4 == 3 * len(audio.masked)
    assert len(audio.masked) > 20


@pytest.mark.parametrize(
    "name", ["peer", "best_rq_relpos", "birq_0.7", "birq_0.7_shipped"]
)
def test_the_losses_of_an_arm_are_finite_and_change(made, name):
    one, audio = made(name), make_audio(utterances=2, seconds=1.0)
    losses = [one(one.batch(audio)).item() for _ in range(3)]
    assert torch.tensor(losses).isfinite().all()
    assert len(set(losses)) == 3


def test_both_systems_have_equally_many_parameters_within_1_percent(made):
    theirs, same = (made(name).num_parameters for name in ("peer", "best_rq_relpos"))
    assert abs(theirs / same - 1) < 0.01


def test_shares_sum_to_1_and_follow_the_work():
    class Work:
        def heavy(self, states):
            for _ in range(40):
                states = states @ states / 300
            return states

        def light(self, states):
            return states + 1

    work = Work()
    states = torch.randn(300, 300, requires_grad=True)
    sections = {"heavy": [(work, "heavy")], "light": [(work, "light")]}
    found = timing.shares(
        lambda: work.light(work.heavy(states)).sum().backward(), sections, "cpu"
    )
    assert sum(found.values()) == pytest.approx(1)
    assert found["heavy"] > 0.8
    assert 0 < found["light"] < 0.1


def test_operations_are_those_of_the_matrix_products():
    left = torch.randn(4, 5, requires_grad=True)
    right = torch.randn(5, 6, requires_grad=True)
    # Forward and two gradients, each 2 x 4 x 5 x 6.
    assert timing.operations(lambda: (left @ right).sum().backward()) == 3 * 240


def test_predicted_hours_are_those_at_the_head_of_the_yaml():
    sizes = ("wide", "base", "large_yodas")
    assert {f"{kind}_{size}" for kind in ("birq", "birq_paper") for size in sizes} == (
        predict.MODELS.keys()
    )
    for name, (_, hours) in predict.MODELS.items():
        head = (ROOT / "hparams" / f"{name}.yaml").read_text()
        expected = float(re.search(r"(\d+) H200-hours", head)[1])
        found = predict.read(name, hours).computing(1)
        assert found == pytest.approx(expected, abs=0.5), name


def test_a_prediction_by_hand():
    printed = predict.Model(
        weights=1e9,
        num_layers=10,
        d_model=100,
        label_layer=5,
        label_gradient=True,
        batch_seconds=10,
        total_steps=3600,
        epochs=2,
        hours=10,
    )
    model = printed._replace(label_gradient=False)
    assert printed.operations == pytest.approx(6e9 * 3.6e6 * 1.5)
    assert model.operations == pytest.approx(6e9 * 3.6e6 * (1 + 5 / 30))
    assert model.computing(8) == pytest.approx(model.operations / 3.168e15 / 3600)
    assert model.reducing(1) == 0
    assert model.reducing(8) == pytest.approx(1.75 * 4e9 / 450e9)
    assert model.reducing(64) == pytest.approx(2 * 63 / 64 * 4e9 / 50e9)
    assert model.memory(1) == pytest.approx(16 + 2 * 500 * 1000 * 60 / 1e9)
    assert printed.memory(1) == pytest.approx(16 + 2 * 500 * 1000 * 60 * 1.5 / 1e9)
    # A step has 20 s of audio, less than 10 s for each of 64 GPUs.
    assert model.memory(64) < model.memory(1)


@pytest.mark.parametrize("name", ["birq_base", "birq_paper_base"])
def test_predicted_weights_are_those_of_encoder_and_heads(load, name):
    small = dict(num_layers=2, label_layer=1, d_model=16, nhead=2, d_ffn=32)
    model = load(f"{name}.yaml", **small).hparams["model"]
    keys = flatten(ROOT / "hparams" / f"{name}.yaml") | small
    parts = [*model.encoder.parameters(), *model.heads.parameters()]
    assert predict.count_weights(keys) == sum(part.numel() for part in parts)


def test_the_page_shows_what_the_command_prints():
    words = " ".join((ROOT / "benchmarks" / "SCALING.md").read_text().split())
    for part in predict.page():
        assert " ".join(part.split()) in words


def run(script, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_step_compares_with_the_peer(tmp_path):
    path = tmp_path / "step.json"
    arms = ("peer", "best_rq_relpos", "birq_0.7", "best_rq")
    size = ("--size", "tiny", "--batch", 2, "--seconds", 1, "--rounds", 2)
    run("step.py", "--threads", 1, *size, "--json", path, "--arms", *arms)
    result = json.loads(path.read_text())
    rows = {row["arm"]: row for row in result["rows"]}
    assert {row["masked"] for row in rows.values()} == {rows["peer"]["masked"]}
    rounds = result["measured"][0]["rounds"]
    expected = [one["peer"]["wall"] / one["best_rq"]["wall"] for one in rounds]
    assert rows["best_rq"]["x peer"] == pytest.approx(sum(expected) / 2)
    assert rows["birq_0.7"]["limit"] == pytest.approx(1.05 * (1 + 3 / 4))
    assert sum(rows["birq_0.7"]["shares"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_scaling_fits_exponents_and_runs_two_ranks(tmp_path):
    path = tmp_path / "scaling.json"
    printed = run(
        *("scaling.py", "--threads", 1, "--points", 2, "--json", path),
        *("--only", "seconds", "ranks"),
    )
    found = json.loads(path.read_text())
    assert [row["seconds"] for row in found["seconds"]] == [6.0, 12.0]
    assert "weak scaling" in printed
    assert set(found["ranks"]) == {"1", "2"}


@pytest.mark.slow
def test_start_times_imports_training_and_encoders(tmp_path):
    path = tmp_path / "start.json"
    size = ("--size", "tiny", "--seconds", 1, "--rounds", 1, "--threads", 1)
    run("start.py", *size, "--json", path)
    found = json.loads(path.read_text())
    assert all(seconds > 0 for seconds in found["import"].values())
    assert 0 < found["first step"] < 120
    assert found["encoder"]["1"]["peer"]["CPU x peer"] == 1
