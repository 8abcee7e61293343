"""Training of the frozen probe."""

from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.brains.ctc import CTCBrain
from speechbrain_birq.brains.run_log import add_result
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.curves import plot_layer_weights

# Keys of a fine-tuning that a probe has no use for.
OF_THE_ENCODER = ("lr_encoder", "freeze_steps", "dropout")


class ProbeBrain(CTCBrain):
    """``CTCBrain`` for a ``ProbeModel``: only its mixture of layers is trained.

    Besides what ``CTCBrain`` writes, ``results.json`` gets ``layer_weights`` and the
    run folder ``layers.png``.

    Raises
    ------
    BadInput
        If a key that changes how an encoder learns is not 0.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for key in OF_THE_ENCODER:
            value = getattr(self.hparams, key, 0)
            if value:
                raise BadInput(
                    f"{key} {value}: the encoder of a probe never learns, so set {key} "
                    f"to 0"
                )

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
