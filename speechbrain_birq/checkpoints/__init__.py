"""Checkpoints and run folders: complete, verified, loaded without running code."""

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.rank_states import RankStates
from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
)

__all__ = [
    "AtomicCheckpointer",
    "RankStates",
    "best_checkpoint",
    "load_architecture",
    "load_weights",
]
