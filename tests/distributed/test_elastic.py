"""Torchrun: a killed worker is restarted, two machines connect, the weights agree."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import ROOT, assert_equal, weights

pytestmark = pytest.mark.slow

SETTINGS = """
--train_split train --label_layer 1 --num_codes 16 --n_mels 40 --num_layers 2
--d_model 16 --nhead 2 --d_ffn 32 --kernel_size 5 --dropout 0.1 --label_noise True
--number_of_epochs 20 --batch_seconds 2 --optimizer_step_limit 40
--ckpt_interval_minutes 0 --ckpt_interval_steps 3 --tensorboard False
--noprogressbar --device cpu --distributed_backend gloo
""".split()


def start(corpus, folder, *launch, seed="1234"):
    """Start a pretraining under torchrun with its output in ``<folder>.txt``."""
    command = [sys.executable, "-m", "torch.distributed.run", *launch]
    command += ["recipes/LibriSpeech/pretrain.py", "hparams/birq_tiny.yaml", *SETTINGS]
    command += ["--data_folder", str(corpus), "--output_folder", str(folder)]
    command += ["--seed", seed]
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    more |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # as docs/distributed.md
    with open(f"{folder}.txt", "ab") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | more, stdout=output, stderr=output
        )


def finish(process, folder):
    """Wait for the end of a run; return its newest weights."""
    try:
        status = process.wait(240)
    finally:
        process.kill()
    assert status == 0, Path(f"{folder}.txt").read_text()[-3000:]
    return weights(folder)


@pytest.fixture(scope="module")
def undisturbed(_corpus_template, tmp_path_factory):
    """Weights of an undisturbed run of two ranks on one machine."""
    folder = tmp_path_factory.mktemp("elastic") / "undisturbed"
    launch = ("--standalone", "--nproc-per-node", "2")
    return finish(start(_corpus_template, folder, *launch), folder)


def test_a_killed_worker_is_restarted_and_the_run_ends_the_same(
    _corpus_template, tmp_path, undisturbed
):
    folder = tmp_path / "killed"
    launch = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    process = start(_corpus_template, folder, *launch)
    while not list(folder.glob("save/CKPT*")):
        assert process.poll() is None, Path(f"{folder}.txt").read_text()[-3000:]
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    os.kill(int(children.split()[-1]), signal.SIGKILL)
    assert_equal(finish(process, folder), undisturbed)
    output = Path(f"{folder}.txt").read_text()
    assert "resumed after step" in output
    assert "TORCH_DISABLE" not in output


def test_two_machines_end_with_the_weights_of_one(
    _corpus_template, tmp_path, undisturbed
):
    """Two agents, each with its own address, connect as the page says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder, agents = tmp_path / "machines", []
    for address in ("127.0.0.1", "127.0.0.2"):
        launch = ["--nnodes", "2", "--nproc-per-node", "1", "--local-addr", address]
        launch += ["--rdzv-backend", "c10d", "--rdzv-id", "birq"]
        launch += ["--rdzv-endpoint", f"127.0.0.1:{port}"]
        agents.append(start(_corpus_template, folder, *launch))
    found = [finish(agent, folder) for agent in agents]
    assert_equal(found[0], undisturbed)


def test_a_machine_with_another_seed_stops_the_run_on_all_machines(
    _corpus_template, tmp_path
):
    """Because its codebooks and projections would differ."""
    folder = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    launch += ["--rdzv-id", "birq", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    seeds = ("1", "2")
    agents = [start(_corpus_template, folder, *launch, seed=seed) for seed in seeds]
    assert [agent.wait(120) for agent in agents] == [1, 1]
    output = Path(f"{folder}.txt").read_text()
    assert len(re.findall("^error: .*rank 1", output, re.M)) == 2
    assert 'pretrain.py", line' not in output
    assert not list(folder.glob("save/CKPT*"))


def test_the_weights_are_finite_after_all_steps(undisturbed):
    assert all(torch.isfinite(value).all() for value in undisturbed.values())
    assert undisturbed["label_norm.num_batches"] == 40
