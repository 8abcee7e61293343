"""Training loops: they know stages, optimisers, loggers and checkpoints."""

from speechbrain_birq.brains.ctc import CTCBrain
from speechbrain_birq.brains.pretrain import BiRQBrain

__all__ = ["BiRQBrain", "CTCBrain"]
