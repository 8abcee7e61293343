"""A run folder: what describes it, and its safe loading."""

import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch
from ruamel.yaml.comments import CommentedMap

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.files import load_tensors
from speechbrain_birq.checkpoints.plain_files import (
    check_depth,
    corruption_named,
    read_yaml_text,
)
from speechbrain_birq.checkpoints.published import (
    INSTALL_AGAIN,
    WEIGHTS,
    find_run,
    load_safetensors,
)
from speechbrain_birq.checkpoints.recovery import (
    describe,
    first_complete,
    save_order,
    smallness,
)
from speechbrain_birq.checkpoints.stored_parts import (
    TRAIN_AGAIN,
    Parts,
    weights_allowed,
)
from speechbrain_birq.checkpoints.stored_values import StoredValues
from speechbrain_birq.config.keys import ARCHITECTURE
from speechbrain_birq.errors import BadInput, from_user_code

TUNED = "lm_weights"  # entry of `birq tune-lm` in results.json, which is no split


def has_checkpoint(folder: str | Path) -> bool:
    """Return whether a run folder has a checkpoint, be it corrupt."""
    return any(Path(folder).glob("save/CKPT+*"))


def has_scored_checkpoint(folder: str | Path) -> bool:
    """Return whether a run has a checkpoint of a validation with an error rate."""
    folders = sorted(Path(folder).glob("save/CKPT+*"))
    return any(smallness(c, "cer") < math.inf for c in describe(folders))


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


def read_stored(path: str | Path, advice: str = TRAIN_AGAIN) -> StoredValues:
    """Read a YAML file of a run folder; nothing of it is run.

    Raises
    ------
    BadInput
        If it is corrupt, or not the kind of file that a run writes.
    """
    text = read_yaml_text(path, advice)
    with corruption_named(path, advice):
        return StoredValues(text)


def read_architecture(
    run_folder: str | Path, trust: Iterable[str] = ()
) -> CommentedMap:
    """Read what describes a run's front end and encoder, without its weights.

    Arguments
    ---------
    run_folder : str or Path
        A run folder, or the name of published weights.
    trust : iterable
        Further packages whose classes may be built.

    Returns
    -------
    CommentedMap
        ``frontend`` and ``encoder``: listed or trusted classes and plain arguments,
        described anew.

    Raises
    ------
    BadInput
        If the folder is no run, or its YAML holds anything else.
    """
    parts = _architecture(run_folder, trust)
    if not parts.foreign:
        _check_buildable(parts, run_folder)
    return parts.tree()


def architecture_text(run_folder: str | Path, trust: Iterable[str] = ()) -> str:
    """Return what ``read_architecture`` returns as the text of another folder."""
    text = io.StringIO()
    ruamel.yaml.YAML().dump(read_architecture(run_folder, trust), text)
    return text.getvalue()


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
    parts = _architecture(run_folder, trust)
    built = parts.build(weights_allowed(run_folder))
    if not parts.foreign:
        _check_fit(parts.path, **built)
    return built


def build_architecture(
    text: str, source: str | Path, trust: Iterable[str] = ()
) -> dict[str, Any]:
    """Build front end and encoder, without weights, from what describes them.

    Arguments
    ---------
    text : str
        What ``architecture_text`` returns.
    source : str or Path
        The file that holds the text, for messages.
    trust : iterable
        Further packages whose classes may be built.

    Returns
    -------
    dict
        ``frontend`` and ``encoder``

    Raises
    ------
    BadInput
        If the text is corrupt, or holds anything but listed or trusted classes.
    """
    check_depth(text, source, TRAIN_AGAIN)
    with corruption_named(source, TRAIN_AGAIN):
        stored = StoredValues(text)
    parts = _parts(stored, source, trust)
    built = parts.build()
    if not parts.foreign:
        _check_fit(source, **built)
    return built


def _architecture(run_folder, trust):
    path = find_run(run_folder) / "architecture.yaml"
    if not path.is_file():
        raise BadInput(
            f"{run_folder} is not a run folder (no architecture.yaml in it): give the "
            f"output_folder of a finished training"
        )
    return _parts(read_stored(path), path, trust)


def _parts(stored, path, trust):
    with corruption_named(path, TRAIN_AGAIN):
        if others := sorted(stored.nodes.keys() - set(ARCHITECTURE)):
            raise ValueError(f"a run writes no key {others[0][:50]!r}")
        values = {name: stored.value(name) for name in ARCHITECTURE}
    return Parts(path, values, trust)


def _check_buildable(parts, run_folder):
    """Build the front end, and the encoder without memory for its weights."""
    alone = {
        name: Parts(parts.path, {name: parts.values[name]}) for name in ARCHITECTURE
    }
    with torch.device("meta"):
        encoder = alone["encoder"].build(weights_allowed(run_folder))
    _check_fit(parts.path, **alone["frontend"].build(), **encoder)


def _check_fit(path, frontend, encoder):
    if frontend.output_dim != encoder.input_dim:
        raise BadInput(
            f"{path} is corrupt (the front end has {frontend.output_dim} features, the "
            f"encoder takes {encoder.input_dim}): {TRAIN_AGAIN}"
        )


def best_checkpoint(run_folder: str | Path) -> Path:
    """Find a run's checkpoint of smallest ``cer``, or its newest if none has one.

    Corrupt ones are skipped with a warning.

    Returns
    -------
    Path
        The checkpoint's folder; of published weights the folder itself.

    Raises
    ------
    BadInput
        If there is none, or all are corrupt.
    """
    run_folder = find_run(run_folder)
    if (run_folder / WEIGHTS).is_file():
        return run_folder
    save = run_folder / "save"
    folders = sorted(save.glob("CKPT+*"))
    if not folders:
        raise BadInput(f"no checkpoint in {save}: the run did not get that far")
    newest_first = sorted(describe(folders), key=save_order, reverse=True)
    ranked = sorted(newest_first, key=lambda c: smallness(c, "cer"))
    return first_complete(ranked, folders, names=["CKPT.yaml", "model.ckpt"]).path


def weights_file(checkpoint: Path) -> Path:
    """Return the file of a checkpoint's weights; published ones have another form."""
    published = checkpoint / WEIGHTS
    return published if published.is_file() else checkpoint / "model.ckpt"


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
        Folder of the checkpoint, as ``best_checkpoint`` returns it.

    Raises
    ------
    BadInput
        If the file is corrupt or the weights belong to another architecture.
    """
    path = weights_file(checkpoint)
    published = path.name == WEIGHTS
    weights = load_safetensors(path, INSTALL_AGAIN) if published else load_tensors(path)
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
    """Refuse what is no state of a module or an optimizer.

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
    """Load a state into a module or an optimizer.

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
