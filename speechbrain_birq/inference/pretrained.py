"""Load the model of a pretraining from its run folder, to label with any layer."""

import io
from collections.abc import Iterable
from pathlib import Path

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml.comments import CommentedMap

from speechbrain_birq.checkpoints.plain_files import corruption_named, read_yaml_text
from speechbrain_birq.checkpoints.run_folder import (
    TRAIN_AGAIN,
    best_checkpoint,
    load_weights,
)
from speechbrain_birq.checkpoints.trust import check_tags
from speechbrain_birq.config.stored import resolve_stored
from speechbrain_birq.errors import BadInput, from_user_code
from speechbrain_birq.models.birq import BiRQ

NEEDED = ("model", "label_layer", "train_split", "valid_split")


def load_labeller(run: str | Path, layer: int, trust: Iterable[str] = ()) -> BiRQ:
    """Load a pretraining's model with k = ``layer``, in evaluation mode.

    Arguments
    ---------
    run : str or Path
        Run folder of a pretraining.
    layer : int
        1 to K
    trust : iterable
        Further packages whose classes the run may build.

    Raises
    ------
    BadInput
        If the run is no pretraining, or has no such layer.
    """
    text = _model_text(run, layer)
    path = Path(run) / "hyperparams.yaml"
    check_tags(text, path, trust)
    try:
        model = load_hyperpyyaml(text)["model"]
    except (ruamel.yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        if from_user_code(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"cannot label with {run}: {reason}") from error
    if not isinstance(model, BiRQ):
        raise BadInput(f"{path} holds no model of a pretraining: {TRAIN_AGAIN}")
    names = "frontend encoder anchor_quantizer enhanced_quantizer label_norm".split()
    modules = {name: getattr(model, name) for name in names}
    load_weights(modules, run, best_checkpoint(run))
    return model.eval()


def pretraining_settings(run: str | Path) -> CommentedMap:
    """Read the keys of a pretraining's run folder, with their references resolved.

    Raises
    ------
    BadInput
        If the folder is not that of a pretraining.
    """
    path = Path(run) / "hyperparams.yaml"
    if not path.is_file():
        raise BadInput(
            f"{run} is not a run folder (no hyperparams.yaml in it): give the "
            f"output_folder of a pretraining"
        )
    with corruption_named(path, TRAIN_AGAIN):
        settings = resolve_stored(read_yaml_text(path, TRAIN_AGAIN))
        lacking = [key for key in NEEDED if key not in settings]
    if lacking:
        raise BadInput(
            f"{run} is no pretraining (no {lacking[0]} in hyperparams.yaml): its "
            f"layers cannot label"
        )
    return settings


def _model_text(run, layer):
    model, text = pretraining_settings(run)["model"], io.StringIO()
    with corruption_named(Path(run) / "hyperparams.yaml", TRAIN_AGAIN):
        model["label_layer"] = layer
    ruamel.yaml.YAML().dump({"model": model}, text)
    return text.getvalue()
