"""A run folder: what describes it, whether it goes on, and its safe loading."""

import io
import pydoc
from pathlib import Path

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.files import load_tensors
from speechbrain_birq.checkpoints.recovery import describe, first_whole, smallness
from speechbrain_birq.errors import BadInput

ARCHITECTURE = ("frontend", "encoder")
TRUSTED = ("speechbrain_birq", "speechbrain", "torch.nn", "torch.optim")


# What a run that goes on may do otherwise than it began.
MAY_CHANGE = frozenset(
    """
    batch_seconds beam_size cache_audio_gb ckpt_interval_minutes ckpt_interval_steps
    collapse_perplexity data_folder decoding keep_checkpoints lm_alpha lm_beta lm_path
    log_interval max_eval_seconds nonfinite_patience num_workers number_of_epochs
    optimizer_step_limit output_folder precision tensorboard test_chunk_size
    test_left_chunks test_splits total_steps trust
    """.split()
)


def check_same_run(folder, resolved_yaml: str) -> None:
    """Refuse to go on with a run under settings that would make it another one.

    Arguments
    ---------
    folder : str or Path
        The output folder; without a checkpoint in it there is nothing to go on with.
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
    old, new = (
        ruamel.yaml.YAML().load(text)
        for text in (before.read_text(encoding="utf-8"), resolved_yaml)
    )
    for key in sorted(new.keys() - MAY_CHANGE):
        values = old.get(key), new[key]
        plain = all(isinstance(v, (str, int, float, type(None))) for v in values)
        if plain and values[0] != values[1]:
            raise BadInput(
                f"{folder} holds a run with {key}: {values[0]}, now it is {values[1]}: "
                f"give another --output_folder, or the old value to go on"
            )


def save_architecture(resolved_yaml: str, path) -> None:
    """Keep the front end's and the encoder's part of a resolved YAML.

    Arguments
    ---------
    resolved_yaml : str
        HyperPyYAML text without references.
    path : Path
        The file to write.
    """
    yaml = ruamel.yaml.YAML()
    tree = yaml.load(resolved_yaml)
    text = io.StringIO()
    yaml.dump({key: tree[key] for key in ARCHITECTURE}, text)
    files.write(path, text.getvalue())


def load_architecture(run_folder, trust=()) -> dict:
    """Build a run's front end and encoder, without weights.

    Arguments
    ---------
    run_folder : str or Path
    trust : tuple
        Further packages whose classes may be built.

    Returns
    -------
    dict
        ``frontend`` and ``encoder``

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
    text = path.read_text(encoding="utf-8")
    try:
        check_tags(text, path, (*TRUSTED, *trust))
        parts = load_hyperpyyaml(text)
        return {name: parts[name] for name in ARCHITECTURE}
    except (ruamel.yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged ({reason}): train again") from error


def check_tags(text, path, trusted) -> None:
    """Refuse a YAML text that could run anything but constructors of known classes.

    Raises
    ------
    BadInput
        Naming the tag.
    """
    loader = ruamel.yaml.YAML(typ="rt", pure=True)
    for token in loader.scan(text):
        if isinstance(token, ruamel.yaml.tokens.TagToken):
            handle, suffix = token.value
            _check_tag(f"{handle or ''}{suffix}", path, trusted)


def _check_tag(tag, path, trusted):
    kind, _, name = tag.partition(":")
    if tag in ("!tuple", "!!python/tuple"):
        return
    if kind in ("!new", "!name") and _is_under(name, trusted):
        found = pydoc.locate(name)
        if not isinstance(found, type):
            raise BadInput(f"{path}: {tag} names no class")
        # A trusted module may import others: ...superpowers.subprocess.Popen.
        if _is_under(found.__module__, trusted):
            return
    raise BadInput(
        f"{path} wants to run {tag}, which is not trusted: if you know where the "
        f"folder comes from, name its package with --trust"
    )


def _is_under(name, packages):
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def best_checkpoint(run_folder) -> Path:
    """Folder of a run's checkpoint of smallest ``cer``; of its newest, if none has one.

    Damaged ones are named in a warning and passed over.

    Raises
    ------
    BadInput
        If there is none, or none is whole.
    """
    save = Path(run_folder) / "save"
    folders = sorted(save.glob("CKPT+*"))
    if not folders:
        raise BadInput(f"no checkpoint in {save}: the run did not get that far")
    ranked = sorted(
        describe(folders), key=lambda c: (smallness(c, "cer"), -c.meta["unixtime"])
    )
    return first_whole(ranked, folders, names=["CKPT.yaml", "model.ckpt"]).path


def load_weights(modules: dict, run_folder, checkpoint: Path) -> None:
    """Load the parts of a saved model into modules, never running code.

    Arguments
    ---------
    modules : dict
        name of the part in the saved model -> module
    run_folder : str or Path
        For the message.
    checkpoint : Path
        Folder of the checkpoint.

    Raises
    ------
    BadInput
        If the file is damaged or the weights belong to another architecture.
    """
    weights = load_tensors(checkpoint / "model.ckpt")
    for part, module in modules.items():
        prefix = f"{part}."
        mine = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        try:
            module.load_state_dict(mine)
        except RuntimeError as error:
            raise BadInput(other_architecture(run_folder, part, error)) from error


def other_architecture(folder, part, error) -> str:
    """The sentence for weights that do not fit."""
    reason = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
    return (
        f"the checkpoint in {folder} is of another architecture ({part}: {reason}): "
        f"take the YAML it was trained with, or another output_folder"
    )
