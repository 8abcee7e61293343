"""Atomic checkpoints, random states, and the safe loading of a run folder."""

import math
import os
import pickle
import pydoc
import random
import shutil
from pathlib import Path

import numpy as np
import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.checkpoints import (
    Checkpointer,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from speechbrain_birq.errors import BadInput

ARCHITECTURE = ("frontend", "encoder")
TRUSTED = ("speechbrain_birq", "speechbrain", "torch.nn", "torch.optim")


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer; a checkpoint exists whole or not at all.

    The stock one writes into the final folder: after an interrupted save, recovery
    fails with a KeyError.
    """

    def _new_checkpoint_dirpath(self):
        path = super()._new_checkpoint_dirpath()
        return path.with_name(f"partial+{path.name}")

    def _custom_checkpoint_dirpath(self, name):
        path = super()._custom_checkpoint_dirpath(name)
        return path.with_name(f"partial+{path.name}")

    def save_checkpoint(self, *args, **kwargs):
        """Save into a partial folder, flush it to the disk, then rename it."""
        if if_main_process():
            for left_over in self.checkpoints_dir.glob("partial+*"):
                shutil.rmtree(left_over)
        ddp_barrier()
        saved = super().save_checkpoint(*args, **kwargs)
        if saved is not None:  # as on every rank but the first
            saved = self._finished(saved.path)
        ddp_barrier()
        return saved

    def save_and_keep_only(self, *args, importance_keys=(), **kwargs):
        """As the stock one, which appends to its own default argument."""
        keys = list(importance_keys)
        super().save_and_keep_only(*args, importance_keys=keys, **kwargs)

    def _finished(self, partial):
        for file in partial.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        final = partial.with_name(partial.name.removeprefix("partial+"))
        if final.exists():  # a name that is used again
            shutil.rmtree(final)
        partial.rename(final)
        return self._construct_checkpoint_objects([final])[0]


@register_checkpoint_hooks
class RandomStates:
    """The random states of Python, NumPy, torch and the model's own generator.

    Arguments
    ---------
    generator : torch.Generator
        Of mask noise and Gumbel noise.
    """

    def __init__(self, generator):
        self.generator = generator

    @mark_as_saver
    def save(self, path):
        """Save all states."""
        states = {
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),
            "torch": torch.get_rng_state(),
            "generator": self.generator.get_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        key = states["numpy"]["state"]["key"]
        states["numpy"]["state"]["key"] = key.tolist()
        torch.save(states, path)

    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Restore all states."""
        states = torch.load(path, weights_only=True)
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))
        key = states["numpy"]["state"]["key"]
        states["numpy"]["state"]["key"] = np.array(key, dtype=np.uint32)
        np.random.set_state(states["numpy"])
        torch.set_rng_state(states["torch"])
        self.generator.set_state(states["generator"])
        if states["cuda"]:
            torch.cuda.set_rng_state_all(states["cuda"])


# What a run that goes on may do otherwise than it began.
MAY_CHANGE = frozenset(
    """
    batch_seconds beam_size cache_audio_gb ckpt_interval_minutes collapse_perplexity
    data_folder decoding keep_checkpoints lm_alpha lm_beta lm_path log_interval
    max_eval_seconds nonfinite_patience num_workers number_of_epochs
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
    with open(path, "w", encoding="utf-8") as file:
        yaml.dump({key: tree[key] for key in ARCHITECTURE}, file)


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
        raise BadInput(f"{path} is damaged ({reason}): train again") from None


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

    Raises
    ------
    BadInput
        If there is none, or the description of one is damaged.
    """
    save = Path(run_folder) / "save"
    found = {path.parent: _cer_and_age(path) for path in save.glob("CKPT*/CKPT.yaml")}
    if not found:
        raise BadInput(f"no checkpoint in {save}: the run did not get that far")
    return min(found, key=found.get)


def _cer_and_age(path):
    try:
        meta = ruamel.yaml.YAML(typ="safe", pure=True).load(path)
        return float(meta.get("cer", math.inf)), -float(meta["unixtime"])
    except (
        ruamel.yaml.YAMLError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path} is damaged ({reason}): delete its folder to use another checkpoint"
        ) from None


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
    path = checkpoint / "model.ckpt"
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise BadInput(
            f"{path} is damaged ({reason}): take another run folder"
        ) from None
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
            raise BadInput(other_architecture(run_folder, part, error)) from None


def other_architecture(folder, part, error) -> str:
    """The sentence for weights that do not fit."""
    reason = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
    return (
        f"the checkpoint in {folder} is of another architecture ({part}: {reason}): "
        f"take the YAML it was trained with, or another output_folder"
    )
