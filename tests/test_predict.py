"""Predicted hours: the arithmetic, and that the page is what the command prints."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import predict  # noqa: E402

RUN = predict.Run("birq_base", 100e6, 1000, 64)  # k = 7 of K = 10, 768 wide


def test_operations_are_six_a_weight_and_frame_and_pass():
    best_rq = 6 * 100e6 * 1000 * 3600 * 50 * 100
    assert predict.operations(RUN, birq=False) == pytest.approx(best_rq)
    assert predict.operations(RUN, birq=True) == pytest.approx(1.7 * best_rq)


def test_one_gpu_sums_no_gradients():
    expected = 6 * 100e6 * 1000 * 3600 * 50 * 100 / (0.4 * 990e12) / 3600
    assert predict.hours(RUN, birq=False, gpus=1) == pytest.approx(expected)


def test_many_gpus_wait_for_launches_and_for_the_network():
    steps = 1000 * 3600 * 100 / (64 * 12.3)
    launches = 10 * 150 * 5e-6
    network = 2 * 63 / 64 * 400e6 / 50e9
    expected = steps * (launches + network) / 3600
    assert predict.hours(RUN, birq=False, gpus=64) == pytest.approx(expected)


def test_memory_is_of_weights_and_of_a_gpus_share_of_the_batch():
    kept = 8 * 12.3 * 50 * 10 * 768 * 120
    assert predict.memory(RUN, birq=False, gpus=8) == pytest.approx(
        (16 * 100e6 + kept) / 1e9
    )


def test_the_page_is_what_the_command_prints():
    page = (ROOT / "benchmarks/NOTES.md").read_text(encoding="utf-8")
    assert predict.table() in page
