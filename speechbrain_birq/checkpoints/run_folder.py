"""A run folder: what describes it, whether it resumes, and its safe loading."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml.comments import CommentedMap

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.files import load_tensors
from speechbrain_birq.checkpoints.plain_files import (
    corruption_named,
    read_yaml_text,
)
from speechbrain_birq.checkpoints.recovery import (
    describe,
    first_complete,
    save_order,
    smallness,
)
from speechbrain_birq.checkpoints.trust import check_tags
from speechbrain_birq.config.keys import MAY_CHANGE
from speechbrain_birq.config.stored import resolve_stored
from speechbrain_birq.errors import BadInput, from_user_code

TRAIN_AGAIN = "train again, or take another run folder"
ARCHITECTURE = ("frontend", "encoder")


def check_same_run(folder: str | Path, resolved_yaml: str) -> None:
    """Refuse to resume a run under settings that would make it another one.

    Arguments
    ---------
    folder : str or Path
        The output folder; without a checkpoint in it there is nothing to resume.
    resolved_yaml : str
        HyperPyYAML text of the settings now.

    Raises
    ------
    BadInput
        Naming the first key that differs.
    """
    before = Path(folder) / "hyperparams.yaml"
    if not before.is_file() or not list(Path(folder).glob("save/CKPT+*")):
        return
    with corruption_named(before, "give another --output_folder"):
        old = resolve_stored(read_yaml_text(before, "give another --output_folder"))
    new = ruamel.yaml.YAML().load(resolved_yaml)
    # Keys that came later are not in the file of an old run.
    keys = (new.keys() & old.keys()) - MAY_CHANGE
    for key in sorted(keys, key=lambda key: (key != "pretrained", key)):
        values = old[key], new[key]
        plain = all(isinstance(v, (str, int, float, type(None))) for v in values)
        if plain and values[0] != values[1]:
            raise BadInput(
                f"{folder} holds a run with {key}: {values[0]}, now it is {values[1]}: "
                f"give another --output_folder, or the old value to resume"
            )


def save_architecture(resolved_yaml: str, path: str | Path) -> None:
    """Keep the front end's and the encoder's part of a resolved YAML.

    Arguments
    ---------
    resolved_yaml : str
        HyperPyYAML text without references.
    path : str or Path
        The file to write.
    """
    yaml = ruamel.yaml.YAML()
    tree = yaml.load(resolved_yaml)
    text = io.StringIO()
    yaml.dump({key: tree[key] for key in ARCHITECTURE}, text)
    files.write(path, text.getvalue())


def read_architecture(
    run_folder: str | Path, trust: Iterable[str] = ()
) -> CommentedMap:
    """Read what describes a run's front end and encoder; nothing is built.

    Arguments
    ---------
    run_folder : str or Path
    trust : iterable
        Further packages whose classes may be built.

    Returns
    -------
    CommentedMap
        ``frontend`` and ``encoder``, without references.

    Raises
    ------
    BadInput
        If the folder is no run, or its YAML builds anything but trusted classes.
    """
    path = Path(run_folder) / "architecture.yaml"
    if not path.is_file():
        raise BadInput(
            f"{run_folder} is not a run folder (no architecture.yaml in it): give the "
            f"output_folder of a finished training"
        )
    text = read_yaml_text(path, TRAIN_AGAIN)
    with corruption_named(path, TRAIN_AGAIN):
        check_tags(text, path, trust)
        tree = ruamel.yaml.YAML().load(text)
        return CommentedMap((name, tree[name]) for name in ARCHITECTURE)


def load_architecture(
    run_folder: str | Path, trust: Iterable[str] = ()
) -> dict[str, Any]:
    """Build a run's front end and encoder, without weights.

    Arguments and errors are those of ``read_architecture``.

    Returns
    -------
    dict
        ``frontend`` and ``encoder``
    """
    text = io.StringIO()
    ruamel.yaml.YAML().dump(read_architecture(run_folder, trust), text)
    with corruption_named(Path(run_folder) / "architecture.yaml", TRAIN_AGAIN):
        parts = load_hyperpyyaml(text.getvalue())
        return {name: parts[name] for name in ARCHITECTURE}


def best_checkpoint(run_folder: str | Path) -> Path:
    """Find a run's checkpoint of smallest ``cer``, or its newest if none has one.

    Corrupt ones are skipped with a warning.

    Returns
    -------
    Path
        The checkpoint's folder.

    Raises
    ------
    BadInput
        If there is none, or all are corrupt.
    """
    save = Path(run_folder) / "save"
    folders = sorted(save.glob("CKPT+*"))
    if not folders:
        raise BadInput(f"no checkpoint in {save}: the run did not get that far")
    newest_first = sorted(describe(folders), key=save_order, reverse=True)
    ranked = sorted(newest_first, key=lambda c: smallness(c, "cer"))
    return first_complete(ranked, folders, names=["CKPT.yaml", "model.ckpt"]).path


def load_weights(
    modules: Mapping[str, torch.nn.Module], run_folder: str | Path, checkpoint: Path
) -> None:
    """Load the parts of a saved model into modules, without running code.

    Arguments
    ---------
    modules : mapping
        name of the part in the saved model -> module
    run_folder : str or Path
        For the message.
    checkpoint : Path
        Folder of the checkpoint.

    Raises
    ------
    BadInput
        If the file is corrupt or the weights belong to another architecture.
    """
    path = checkpoint / "model.ckpt"
    weights = load_tensors(path)
    check_state(weights, path)
    for part, module in modules.items():
        prefix = f"{part}."
        mine = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        load_state(module, mine, run_folder, part)


def check_state(state: Any, path: str | Path) -> None:
    """Refuse what is no state of a module or an optimiser.

    Raises
    ------
    BadInput
        If it is no dictionary whose keys are texts.
    """
    with corruption_named(path, TRAIN_AGAIN):
        if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
            raise ValueError(f"a {type(state).__name__} that holds no state")


def load_state(
    part: Any, state: Mapping[str, Any], folder: str | Path, name: str
) -> None:
    """Load a state into a module or an optimiser.

    Arguments
    ---------
    part : torch.nn.Module or torch.optim.Optimizer
    state : mapping
        What its ``state_dict`` has returned.
    folder : str or Path
        Where the state was found, for the message.
    name : str
        What the part is called there, for the message.

    Raises
    ------
    BadInput
        If the state does not fit.
    """
    try:
        part.load_state_dict(state)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if from_user_code(error):
            raise
        lines = str(error).splitlines()
        reason = (lines[1] if len(lines) > 1 else str(error)).strip()
        raise BadInput(
            f"the checkpoint in {folder} is of another architecture ({name}: "
            f"{reason}): take the YAML it was trained with, or another output_folder"
        ) from error
