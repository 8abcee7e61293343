"""Training loops: they know stages, optimisers, loggers and checkpoints."""

from speechbrain_birq.brains.ctc import CTCBrain
from speechbrain_birq.brains.pretrain import BiRQBrain
from speechbrain_birq.brains.probe import ProbeBrain

__all__ = ["BiRQBrain", "CTCBrain", "ProbeBrain"]
