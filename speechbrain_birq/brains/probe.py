"""Training of the frozen probe."""

from pathlib import Path

from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.brains.ctc import CTCBrain, add_result
from speechbrain_birq.metrics.curves import plot_layer_weights


class ProbeBrain(CTCBrain):
    """``CTCBrain`` for a ``ProbeModel``: only its mixture of layers is trained.

    Besides what ``CTCBrain`` writes, ``results.json`` gets ``layer_weights`` and the
    run folder ``layers.png``.
    """

    def init_optimizers(self):
        """The mixture alone."""
        self.optimizer = self.opt_class(self.model.head.parameters())
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def score(self, split, loader, chunk=None) -> dict:
        """As ``CTCBrain.score``, with the weights of the layers beside it."""
        result = super().score(split, loader, chunk)
        if if_main_process():
            weights = self.model.head.weights.tolist()
            folder = Path(self.hparams.output_folder)
            add_result(folder, "layer_weights", [round(w, 4) for w in weights])
            plot_layer_weights(weights, folder / "layers.png")
        return result
