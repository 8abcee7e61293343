"""HyperPyYAML with deltas, and without silent mistakes."""

import difflib
import inspect
import pydoc
import re
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml.constructor import DuplicateKeyError
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.config.keys import KIND, fitted, tag_of
from speechbrain_birq.errors import BadInput

# Keys that the experiments and the brains read; every other key must be referenced.
READ_BY_CODE = frozenset(
    """
    anchor_weight augment batch_seconds beam_size brain_class cache_audio_gb
    checkpointer chunking collapse_perplexity data_folder decoding encoder
    enhanced_weight epoch_counter freeze_steps fresh_layers frontend
    keep_checkpoints label_fitting lm_alpha lm_beta lm_path log_interval lr_encoder
    lr_schedule masking max_eval_seconds max_seconds min_seconds model
    modules normalize_seconds num_tokens num_workers opt_class output_folder pretrained
    run_log seed stored_labels test_chunk_size test_left_chunks test_splits tokens
    train_split trust valid_split
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
    given = _checked_overrides(base, overrides or {}, "the command line")
    sources = dict.fromkeys(changes, path) | dict.fromkeys(given, "the command line")
    changes |= given
    for key, old in _parse(base).items():
        value = changes.get(key, old)
        new = fitted(key, value, old, sources.get(key, base))
        if key in changes or new is not value:
            changes[key] = new
    _check_all_keys(base)
    try:
        resolved = resolve_references(_swapped(base, changes), changes).getvalue()
        hparams = load_hyperpyyaml(resolved)
        _check_partials(hparams)
        return Configuration(hparams, resolved)
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise BadInput(f"{path}: {_readable(error)}") from error
    except ruamel.yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {_one_line(error)}") from error


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
    _refuse_code([argument for argument in argv if argument != path], overrides)
    values = {name: options[name] for name in options.overridden_args}
    limit = values.get("optimizer_step_limit")
    if limit and limit.isdecimal():  # SpeechBrain leaves it a string
        values["optimizer_step_limit"] = int(limit)
    values.pop("param_file", None)
    for name in values.keys() & KIND.keys():
        fitted(name, values[name], None, "the command line")
    options = RunOptions.from_dictionary(values)
    return path, options, _load(overrides, "the command line") or {}


def _refuse_code(argv, overrides):
    """The command line holds values; what is built and called stands in a file."""
    if any(argument.count("=") > argument.startswith("--") for argument in argv):
        # SpeechBrain would put a blank in its place.
        raise BadInput(
            "the command line: a value may not hold '=': write it into a YAML file "
            "that begins with !include:"
        )
    try:
        tokens = list(ruamel.yaml.YAML(typ="rt", pure=True).scan(overrides))
    except ruamel.yaml.YAMLError:
        return  # told where it is parsed
    if any(isinstance(token, ruamel.yaml.tokens.TagToken) for token in tokens):
        raise BadInput(
            "the command line: a value may not hold a tag such as !new: or !apply:: "
            "write it into a YAML file that begins with !include:"
        )


def _load(text, where):
    try:  # without tags first: below one, ruamel hides a key given twice
        ruamel.yaml.YAML().load(re.sub(r"(?<!\S)!\w\S*", "", text))
        return ruamel.yaml.YAML().load(text)
    except ruamel.yaml.YAMLError as error:
        raise BadInput(f"{where} is not valid YAML: {_one_line(error)}") from error


def _parse(path):
    if not path.is_file():
        raise BadInput(f"no YAML file {path}")
    tree = _load(path.read_text(encoding="utf-8"), path)
    if not isinstance(tree, dict):
        raise BadInput(f"{path} holds no keys")
    return tree


def _included(node):
    tag = tag_of(node)
    return tag.removeprefix("!include:") if tag.startswith("!include:") else None


def _checked_overrides(base, overrides, where):
    known = _parse(base)
    for key in overrides:
        if key not in known:
            raise BadInput(_unknown(key, known, where))
    return dict(overrides)


def _swapped(base, changes):
    """The base's text with the parts that a change builds of another class.

    HyperPyYAML updates a mapping in place: the old class would get the new arguments.
    """
    tree, text = _parse(base), StringIO()
    for key in tree.keys() & changes.keys():
        if tag_of(changes[key]) not in ("", tag_of(tree[key])):
            tree[key] = changes[key]
    ruamel.yaml.YAML().dump(tree, text)
    text.name = str(base)  # includes are relative to it
    text.seek(0)
    return text


def _check_all_keys(base):
    tree = _parse(base)
    options = RunOptions().as_dict()
    text = base.read_text(encoding="utf-8")
    referenced = set(re.findall(r"<([A-Za-z_]\w*)", text))
    for key, node in tree.items():
        if key.startswith("__"):  # HyperPyYAML runs and then forgets these
            continue
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
    if isinstance(error, DuplicateKeyError):
        line = error.problem_mark.line + 1
        key = re.search(r'duplicate key "(.*?)"', str(error.problem))[1]
        return f"the key {key!r} is given twice (again in line {line}): keep one"
    texts = [str(argument) for argument in error.args] or [str(error)]
    return " ".join(" ".join(texts).split())[:400]
