"""The benchmarks as modules, and their arms at a tiny size."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import ours
import peer
from arms import ARMS, Size

SIZE = Size(num_layers=2, d_model=16, nhead=2, d_ffn=32)


@pytest.fixture
def made(tmp_path):
    """made(name): a tiny arm with 64 codes."""

    def make(name):
        arm = ARMS[name]._replace(num_codes=64)
        build = peer.build if arm.system == "peer" else ours.build
        return build(arm, SIZE, tmp_path, "cpu")

    return make
