"""HyperPyYAML with deltas, and without silent mistakes."""

import difflib
import inspect
import pydoc
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.errors import BadInput

# Keys that the experiments and the brains read; every other key must be referenced.
READ_BY_CODE = frozenset(
    """
    anchor_weight augment batch_seconds beam_size brain_class cache_audio_gb
    checkpointer collapse_perplexity data_folder decoding encoder enhanced_weight
    epoch_counter freeze_steps frontend keep_checkpoints lm_alpha lm_beta lm_path
    log_interval lr_encoder lr_schedule mask_epoch masking max_seconds min_seconds model
    modules num_tokens num_workers opt_class output_folder pretrained run_log seed
    test_splits tokens train_split trust valid_split
    """.split()
)


class Configuration(NamedTuple):
    """An experiment's parts and the YAML text that made them."""

    hparams: dict
    resolved: str


def load_configuration(path, overrides=None) -> Configuration:
    """Load an experiment's YAML.

    A file that starts with ``!include:other.yaml`` is a delta: its keys replace the
    other file's. Any key that nothing reads, here, in an included part or on the
    command line, is refused with the nearest right one.

    Arguments
    ---------
    path : str or Path
    overrides : dict, optional
        Top-level keys from the command line.

    Returns
    -------
    Configuration

    Raises
    ------
    BadInput
        If a file is missing, a key unknown, or a value not acceptable.
    """
    base, changes = flatten(Path(path))
    changes |= _checked_overrides(base, overrides or {}, "the command line")
    _check_all_keys(base)
    try:
        with open(base, encoding="utf-8") as file:
            resolved = resolve_references(file, changes).getvalue()
        hparams = load_hyperpyyaml(resolved)
        _check_partials(hparams)
        return Configuration(hparams, resolved)
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise BadInput(f"{path}: {_readable(error)}") from None
    except ruamel.yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {_one_line(error)}") from None


def flatten(path: Path) -> tuple[Path, dict]:
    """The file at the bottom of a chain of deltas, and the changes to it.

    Example
    -------
    >>> folder = Path(getfixture("tmp_path"))
    >>> _ = (folder / "base.yaml").write_text("a: 1\\nb: 2\\n")
    >>> _ = (folder / "delta.yaml").write_text("!include:base.yaml\\na: 3\\n")
    >>> base, changes = flatten(folder / "delta.yaml")
    >>> base.name, dict(changes)
    ('base.yaml', {'a': 3})
    """
    tree = _parse(path)
    included = _included(tree)
    if included is None:
        return path, {}
    base, changes = flatten(path.parent / included)
    changes |= _checked_overrides(base, dict(tree), path)
    return base, changes


def parse_arguments(argv) -> tuple[str, RunOptions, dict]:
    """SpeechBrain's command line: YAML file, run options, overrides of its keys.

    Arguments
    ---------
    argv : list
        As ``sys.argv[1:]``.

    Example
    -------
    >>> argv = ["x.yaml", "--precision", "bf16", "--optimizer_step_limit=9", "--seed=1"]
    >>> path, options, overrides = parse_arguments(argv)
    >>> path, options.precision, options.optimizer_step_limit, dict(overrides)
    ('x.yaml', 'bf16', 9, {'seed': 1})
    """
    path, options, overrides = RunOptions.from_command_line_args(list(argv))
    values = {name: options[name] for name in options.overridden_args}
    limit = values.get("optimizer_step_limit")
    if limit is not None:  # SpeechBrain leaves it a string
        values["optimizer_step_limit"] = _whole_number("optimizer_step_limit", limit)
    values.pop("param_file", None)
    options = RunOptions.from_dictionary(values)
    return path, options, dict(ruamel.yaml.YAML().load(overrides) or {})


def _whole_number(name, text):
    try:
        return int(text)
    except ValueError:
        raise BadInput(f"--{name} takes a whole number, got {text!r}") from None


def _parse(path):
    if not path.is_file():
        raise BadInput(f"no YAML file {path}")
    try:
        tree = ruamel.yaml.YAML().load(path.read_text(encoding="utf-8"))
    except ruamel.yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {_one_line(error)}") from None
    if not isinstance(tree, dict):
        raise BadInput(f"{path} holds no keys")
    return tree


def _included(node):
    tag = getattr(getattr(node, "tag", None), "value", None) or ""
    return tag.removeprefix("!include:") if tag.startswith("!include:") else None


def _checked_overrides(base, overrides, where):
    tree = _parse(base)
    for key, value in overrides.items():
        if key not in tree:
            raise BadInput(_unknown(key, tree, where))
        _check_type(key, value, tree[key], where)
    return dict(overrides)


def _check_type(key, value, old, where):
    """Numbers stay numbers; references and null may become anything."""
    if isinstance(old, bool) != isinstance(value, bool) and isinstance(
        old, (bool, int, float)
    ):
        raise BadInput(f"{where}: {key} takes a value like {old}, got {value!r}")
    if isinstance(old, (int, float)) and isinstance(value, str):
        raise BadInput(f"{where}: {key} takes a number like {old}, got {value!r}")


def _check_all_keys(base):
    tree = _parse(base)
    options = RunOptions().as_dict()
    text = base.read_text(encoding="utf-8")
    referenced = set(re.findall(r"<([A-Za-z_]\w*)", text))
    for key, node in tree.items():
        if key not in referenced and key not in READ_BY_CODE and key not in options:
            raise BadInput(
                _unknown(key, READ_BY_CODE | referenced | set(options), base)
            )
        included = _included(node)
        if included is not None:
            part = base.parent / included
            for argument in node:
                known = _parse(part)
                if argument not in known:
                    raise BadInput(_unknown(argument, known, f"{base}, {key}"))


def _unknown(key, known, where):
    nearest = difflib.get_close_matches(str(key), sorted(map(str, known)), n=1)
    hint = f": did you mean {nearest[0]!r}?" if nearest else ""
    return f"{where}: nothing reads the key {key!r}{hint}"


def _check_partials(hparams):
    """A ``!name:`` takes any argument until it is called, perhaps hours later."""
    for value in hparams.values():
        if isinstance(value, partial):
            known = inspect.signature(value.func).parameters
            for key in value.keywords.keys() - known.keys():
                raise ValueError(_unknown(key, known, value.func.__qualname__))


def _readable(error):
    """A constructor's complaint, without the traceback that SpeechBrain adds."""
    text = _one_line(error)
    wrong = re.search(r"class (\S+) .*unexpected keyword argument '(\w+)'", text)
    if not wrong:
        return text
    known = inspect.signature(pydoc.locate(wrong[1])).parameters
    return _unknown(wrong[2], known, wrong[1])


def _one_line(error):
    texts = [str(argument) for argument in error.args] or [str(error)]
    return " ".join(" ".join(texts).split())[:400]
