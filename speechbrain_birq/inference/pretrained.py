"""A pretrained run's own labels: its model out of its run folder, for any layer."""

import io
from pathlib import Path

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml

from speechbrain_birq.checkpoints.plain_files import read_tagged_yaml
from speechbrain_birq.checkpoints.run_folder import (
    TRAIN_AGAIN,
    best_checkpoint,
    load_weights,
)
from speechbrain_birq.checkpoints.trust import check_tags
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.birq import BiRQ

PARTS = ("frontend", "encoder", "labels")


def load_labeller(run, layer, trust=()) -> BiRQ:
    """A pretrained run's model with k = ``layer``, in evaluation.

    Raises
    ------
    BadInput
        If the run is no pretraining, or has no such layer.
    """
    text = _parts_text(run)
    path = Path(run) / "hyperparams.yaml"
    check_tags(text, path, trust)
    try:
        parts = load_hyperpyyaml(text)
        labels = parts["labels"]
        model = BiRQ(
            frontend=parts["frontend"],
            encoder=parts["encoder"],
            anchor_quantizer=labels["anchor_quantizer"],
            enhanced_quantizer=labels["enhanced_quantizer"],
            selector=labels["selector"],
            heads=labels["heads"],
            label_layer=layer,
            label_norm=labels["label_norm"],
        )
    except (ruamel.yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"cannot label with {run}: {reason}") from error
    names = "frontend encoder anchor_quantizer enhanced_quantizer label_norm".split()
    modules = {name: getattr(model, name) for name in names}
    load_weights(modules, run, best_checkpoint(run))
    return model.eval()


def pretraining_settings(run):
    """The resolved keys of a pretraining's run folder (a Path).

    Raises
    ------
    BadInput
        If it is none.
    """
    path = run / "hyperparams.yaml"
    if not path.is_file():
        raise BadInput(
            f"{run} is not a run folder (no hyperparams.yaml in it): give the "
            f"output_folder of a pretraining"
        )
    settings = read_tagged_yaml(path, TRAIN_AGAIN)
    keys = (*PARTS, "label_layer", "train_split", "valid_split")
    lacking = [key for key in keys if key not in settings]
    if lacking:
        raise BadInput(
            f"{run} is no pretraining (no {lacking[0]} in hyperparams.yaml): its "
            f"layers cannot label"
        )
    return settings


def _parts_text(run):
    settings, text = pretraining_settings(Path(run)), io.StringIO()
    ruamel.yaml.YAML().dump({name: settings[name] for name in PARTS}, text)
    return text.getvalue()
