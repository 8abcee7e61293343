"""Start an experiment from a finished run: its description, its weights, a record."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml.comments import CommentedMap
from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.files import load_tensors
from speechbrain_birq.checkpoints.published import WEIGHTS, find_run
from speechbrain_birq.checkpoints.recovery import read_checkpoint
from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    check_state,
    has_checkpoint,
    load_architecture,
    load_state,
    load_weights,
    read_architecture,
    weights_file,
)
from speechbrain_birq.config.adopt import adopt
from speechbrain_birq.config.keys import ARCHITECTURE
from speechbrain_birq.config.loader import plain_value
from speechbrain_birq.config.same_model import check_same_model
from speechbrain_birq.decoding.tokens import Tokens, is_finetuned, load_tokens
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.pretrained import pretraining_settings, read_model
from speechbrain_birq.models.birq import BiRQ
from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer

RECORD = "pretrained.json"  # of the run folder: where its first weights came from
LABELS = ("anchor_quantizer", "enhanced_quantizer", "label_norm", "heads")

logger = logging.getLogger(__name__)


def settle_model(tree: CommentedMap, given: dict[str, Any], path: str | Path) -> None:
    """Bring an experiment and the run that ``pretrained`` names to one model.

    Fine-tuning adopts front end and encoder of the run. Pretraining keeps the labels,
    too, so its file must describe the model that the run has. A resumed experiment has
    all of it in its own folder: the run need not exist any more.

    Arguments
    ---------
    tree : CommentedMap
        The experiment, in which ``pretrained`` names a run; changed in place.
    given : dict
        Values of the command line.
    path : str or Path
        The file, for messages.

    Raises
    ------
    BadInput
        If a value contradicts the run's model, or the run cannot be used.
    """
    run, trust = plain_value(tree, "pretrained"), plain_value(tree, "trust") or ()
    folder = plain_value(tree, "output_folder")
    resumed = folder is not None and has_checkpoint(folder)
    if "tokens" in tree:  # fine-tuning
        adopt(tree, read_architecture(folder if resumed else run, trust), given)
    elif not resumed:
        keep_labels = keeps_labels(run, bool(plain_value(tree, "new_labels")))
        check_same_model(tree, _stored(run, trust, keep_labels), run, path)


def keeps_labels(run: str | Path, new_labels: bool) -> bool:
    """Return whether pretraining keeps the labels of a run; a fine-tuning has none."""
    return not new_labels and not is_finetuned(run)


def _stored(run, trust, keep_labels):
    if not keep_labels:
        return read_architecture(run, trust)
    if (find_run(run) / WEIGHTS).is_file():
        raise BadInput(
            f"the published weights {run} have no output layers, so a pretraining "
            f"cannot keep their labels: give --new_labels True to keep only front end "
            f"and encoder"
        )
    labels = pretraining_settings(run).get("stored_labels")
    return {"model": read_model(run, trust), "stored_labels": labels}


def load_pretraining(hparams: Mapping[str, Any], model: BiRQ, folder: Path) -> None:
    """Let a pretraining start with the weights of the run that ``pretrained`` names.

    Nothing is loaded if there is no such run, or if the folder has a checkpoint.

    Arguments
    ---------
    hparams : mapping
        Keys of the YAML.
    model : BiRQ
        Its weights are replaced; steps, optimizer and schedules begin anew.
    folder : Path
        The run folder, for the record.
    """
    run = hparams.get("pretrained")
    if run is None or has_checkpoint(folder):
        return
    names: tuple[str, ...] = ARCHITECTURE
    kept = "front end and encoder"
    if keeps_labels(run, hparams.get("new_labels", False)):
        names, kept = (*ARCHITECTURE, *LABELS), "front end, encoder and labels"
    else:
        kept += "; labels as in the YAML file"
    checkpoint = best_checkpoint(run)
    load_weights({name: getattr(model, name) for name in names}, run, checkpoint)
    for quantizer in (model.anchor_quantizer, model.enhanced_quantizer):
        if isinstance(quantizer, FittedQuantizer):
            quantizer.count_one_fit()
    write_record(folder, run, checkpoint, kept)


def write_record(folder: Path, run: str | Path, checkpoint: Path, kept: str) -> None:
    """Write and log where a run's first weights come from."""
    step = read_checkpoint(checkpoint).meta["step"]
    logger.info("from %s, step %d: %s", run, step, kept)
    record = {
        "run": str(find_run(run).resolve()),
        "checkpoint": checkpoint.name,
        "step": step,
        "sha256": files.sha256(weights_file(checkpoint)),
        "kept": kept,
    }
    if if_main_process():
        files.write(folder / RECORD, json.dumps(record, indent=2) + "\n")


def load_encoder(
    hparams: Mapping[str, Any], num_fresh: int, folder: Path
) -> tuple[Any, Any]:
    """Return the front end and the encoder that a fine-tuning starts with.

    They are those of the YAML, and have the weights of the run that ``pretrained``
    names. If the folder has a checkpoint, they will be loaded from it.

    Arguments
    ---------
    hparams : mapping
        Keys of the YAML.
    num_fresh : int
        Number of last layers that start at random.
    folder : Path
        The run folder.
    """
    parts = {name: hparams[name] for name in ARCHITECTURE}
    run, encoder = hparams.get("pretrained"), parts["encoder"]
    if run is None:
        return parts["frontend"], encoder
    fresh = _last_layers(encoder, num_fresh)
    if not has_checkpoint(folder):
        load_weights(parts, run, best_checkpoint(run))
        if num_fresh:
            # The same seed has drawn the pretraining's first weights: draw others.
            other = load_architecture(run, tuple(hparams.get("trust", ())))["encoder"]
            fresh.load_state_dict(other.last_layers(num_fresh).state_dict())
    encoder.set_dropout(hparams["dropout"])
    return parts["frontend"], encoder


def _last_layers(encoder, count):
    if count > encoder.num_layers:
        raise BadInput(
            f"fresh_layers {count}: the pretrained encoder has {encoder.num_layers} "
            f"layers, give at most so many"
        )
    if count and not hasattr(encoder, "last_layers"):
        raise BadInput(
            f"fresh_layers {count}: {type(encoder).__name__} has no method "
            f"last_layers, give --fresh_layers 0"
        )
    return encoder.last_layers(count) if count else torch.nn.ModuleList()


def load_output_layer(
    hparams: Mapping[str, Any], model: torch.nn.Module, tokens: Tokens, folder: Path
) -> None:
    """Let a fine-tuning start with the output layer of a run that has its tokens.

    Arguments
    ---------
    hparams : mapping
        Keys of the YAML.
    model : torch.nn.Module
        ``CTCModel`` or one's own; all but its front end and encoder is replaced.
    tokens : CharacterTokens or SentencePieceTokens
        Tokens of the experiment.
    folder : Path
        The run folder, for the record.

    Raises
    ------
    BadInput
        If ``fresh_layers`` would put random layers below the output layer.
    """
    run = hparams.get("pretrained")
    if run is None or has_checkpoint(folder):
        return
    checkpoint, kept = best_checkpoint(run), "front end and encoder"
    if keeps_tokens(hparams, tokens):
        state = load_tensors(checkpoint / "model.ckpt")
        check_state(state, checkpoint / "model.ckpt")
        mine, theirs = _above_encoder(model.state_dict()), _above_encoder(state)
        if mine.keys() == theirs.keys():
            _refuse_fresh_layers(hparams)
            load_state(model, model.state_dict() | theirs, run, "output layer")
            kept = "front end, encoder, tokens and output layer"
    write_record(folder, run, checkpoint, kept)


def keeps_tokens(hparams: Mapping[str, Any], tokens: Tokens) -> bool:
    """Return whether a fine-tuning has the tokens of the run that it starts from."""
    run = hparams["pretrained"]
    if hparams.get("new_tokens") or not is_finetuned(run):
        return False
    return load_tokens(run).vocabulary == tokens.vocabulary


def _above_encoder(state):
    below = tuple(f"{name}." for name in ARCHITECTURE)
    return {name: value for name, value in state.items() if not name.startswith(below)}


def _refuse_fresh_layers(hparams):
    if hparams["fresh_layers"]:
        raise BadInput(
            f"fresh_layers {hparams['fresh_layers']} would put random layers below the "
            f"output layer of {hparams['pretrained']}: give --fresh_layers 0, or "
            f"--new_tokens True for a new output layer"
        )
