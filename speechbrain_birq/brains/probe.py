"""Training of the frozen probe."""

from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.brains.ctc import CTCBrain
from speechbrain_birq.brains.run_log import add_result
from speechbrain_birq.metrics.curves import plot_layer_weights


class ProbeBrain(CTCBrain):
    """``CTCBrain`` for a ``ProbeModel``: only its mixture of layers is trained.

    Besides what ``CTCBrain`` writes, ``results.json`` gets ``layer_weights`` and the
    run folder ``layers.png``.
    """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the mixture alone."""
        return [{"params": list(self.model.head.parameters())}]

    def score(self, split: str, loader: Any, chunk: Any = None) -> dict[str, float]:
        """Score as ``CTCBrain`` does; write the weights of the layers, too."""
        result = super().score(split, loader, chunk)
        if if_main_process():
            weights = self.model.head.weights.tolist()
            folder = Path(self.hparams.output_folder)
            add_result(folder, "layer_weights", [round(w, 4) for w in weights])
            plot_layer_weights(weights, folder / "layers.png")
        return result
