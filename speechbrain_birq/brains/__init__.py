"""Training loops: they know stages, optimizers, loggers and checkpoints."""

from speechbrain_birq.brains.base import SumBrain
from speechbrain_birq.brains.ctc import CTCBrain
from speechbrain_birq.brains.label_fitting import LabelFitting
from speechbrain_birq.brains.muon import Muon
from speechbrain_birq.brains.pretrain import BiRQBrain
from speechbrain_birq.brains.probe import ProbeBrain
from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.brains.schedules import Ramp, WarmupDecay, WarmupHoldAnneal

__all__ = [
    "BiRQBrain",
    "CTCBrain",
    "LabelFitting",
    "Muon",
    "ProbeBrain",
    "Ramp",
    "RunLog",
    "SumBrain",
    "WarmupDecay",
    "WarmupHoldAnneal",
]


def __getattr__(name: str):
    """Find names of the layout before the rooms, which stored runs hold."""
    from speechbrain_birq.checkpoints.moved_names import old_module

    return old_module(f"brains.{name}")
