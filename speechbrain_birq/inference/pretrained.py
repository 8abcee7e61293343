"""Load the model of a pretraining from its run folder, to label with any layer."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from speechbrain_birq.checkpoints.plain_files import corruption_named
from speechbrain_birq.checkpoints.run_folder import (
    TRAIN_AGAIN,
    best_checkpoint,
    load_weights,
    read_stored,
)
from speechbrain_birq.checkpoints.stored_parts import Parts, weights_allowed
from speechbrain_birq.checkpoints.stored_values import Part, StoredValues
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.birq import BiRQ

NEEDED = {"label_layer": int, "train_split": str, "valid_split": str}


def load_labeller(
    run: str | Path,
    layer: int,
    trust: Iterable[str] = (),
    checkpoint: Path | None = None,
) -> BiRQ:
    """Load a pretraining's model with k = ``layer``, in evaluation mode.

    Arguments
    ---------
    run : str or Path
        Run folder of a pretraining.
    layer : int
        1 to K
    trust : iterable
        Further packages whose classes the run may build.
    checkpoint : Path, optional
        Folder of the weights; by default the run's ``best_checkpoint``.

    Raises
    ------
    BadInput
        If the run is no pretraining, or has no such layer.
    """
    parts = _model(run, trust)
    model = parts.build(weights_allowed(run))["model"]
    if not isinstance(model, BiRQ):
        raise BadInput(f"{parts.path} holds no model of a pretraining: {TRAIN_AGAIN}")
    # Not an argument of the model: the run is not corrupt if it lacks the layer.
    if not 1 <= layer <= model.encoder.num_layers:
        raise BadInput(
            f"layer {layer} is out of range: the encoder of {run} has layers 1 to "
            f"{model.encoder.num_layers}"
        )
    model.label_layer = layer
    names = "frontend encoder anchor_quantizer enhanced_quantizer label_norm".split()
    modules = {name: getattr(model, name) for name in names}
    load_weights(modules, run, checkpoint or best_checkpoint(run))
    return model.eval()


def read_model(run: str | Path, trust: Iterable[str] = ()) -> CommentedMap:
    """Read what describes a pretraining's model, without its weights.

    ``run``, ``trust`` and errors are those of ``load_labeller``.

    Returns
    -------
    CommentedMap
        Listed or trusted classes and plain arguments, described anew.
    """
    return _model(run, trust).tree()["model"]


def _model(run, trust) -> Parts:
    path, stored = Path(run) / "hyperparams.yaml", _stored(run)
    with corruption_named(path, TRAIN_AGAIN):
        model = stored.value("model")
        if not isinstance(model, Part):
            raise ValueError("its model is no !new: of a class")
    known = dict(model.arguments)
    known.pop("label_terms", None)  # they teach, they do not label
    return Parts(path, {"model": replace(model, arguments=known)}, trust)


def pretraining_settings(run: str | Path) -> dict[str, Any]:
    """Read the keys of a pretraining's run folder that are texts, numbers or null.

    Raises
    ------
    BadInput
        If the folder is not that of a pretraining.
    """
    settings = _stored(run).scalars()
    for key, kind in NEEDED.items():
        if not isinstance(settings.get(key), kind):
            raise BadInput(
                f"{Path(run) / 'hyperparams.yaml'} is corrupt ({key} is no "
                f"{kind.__name__}): {TRAIN_AGAIN}"
            )
    return settings


def _stored(run) -> StoredValues:
    path = Path(run) / "hyperparams.yaml"
    if not path.is_file():
        raise BadInput(
            f"{run} is not a run folder (no hyperparams.yaml in it): give the "
            f"output_folder of a pretraining"
        )
    stored = read_stored(path)
    lacking = [key for key in ("model", *NEEDED) if key not in stored.nodes]
    if lacking:
        raise BadInput(
            f"{run} is no pretraining (no {lacking[0]} in hyperparams.yaml): its "
            f"layers cannot label"
        )
    return stored
