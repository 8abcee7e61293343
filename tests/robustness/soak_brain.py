"""What a soak watches: utterances of each step, and one batch that is not finite."""

import math
import os

from speechbrain_birq.brains import BiRQBrain


class SoakBrain(BiRQBrain):
    """A ``BiRQBrain`` that writes each batch's names to the file ``$SOAK_RECORD``.

    A training batch with the utterance ``$SOAK_SPOILED`` has a loss that is no number.
    """

    def inner_step(self, batch):
        """Note epoch, step and names first."""
        epoch = self.hparams.epoch_counter.current
        with open(os.environ["SOAK_RECORD"], "a", encoding="utf-8") as file:
            print(epoch, self.step, *batch.id, file=file)
        return super().inner_step(batch)

    def compute_forward(self, batch, stage):
        """Spoil one."""
        objective = super().compute_forward(batch, stage)
        if not self.modules.training or os.environ["SOAK_SPOILED"] not in batch.id:
            return objective
        return objective._replace(anchor_loss=objective.anchor_loss * math.nan)
