"""From an experiment's YAML to its parts, without silent mistakes."""

import logging
import pydoc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from hyperpyyaml.core import recursive_resolve
from ruamel.yaml.comments import CommentedMap
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.config.checks import (
    COMMAND_LINE,
    checked_value,
    resembles,
    unknown,
)
from speechbrain_birq.config.deltas import apply_changes, arguments_of, read_flat
from speechbrain_birq.config.keys import BOTH, KEYS, READ
from speechbrain_birq.config.shipped import find_file
from speechbrain_birq.config.tree import (
    dump,
    expression,
    nodes,
    one_line,
    referenced,
    tag_of,
)
from speechbrain_birq.errors import BadInput, from_user_code

logger = logging.getLogger(__name__)

OPTIONS = RunOptions().as_dict().keys()
ANGLES = re.compile("<[^>]*>")
Start = Callable[[CommentedMap, dict[str, Any], str | Path], None]


class Configuration(NamedTuple):
    """An experiment's parts and the YAML that made them."""

    hparams: dict[str, Any]
    resolved: str  # YAML text without references
    text: str  # flat YAML text: a file of this text is the same experiment


def load_configuration(
    path: str | Path,
    overrides: dict[str, Any] | None = None,
    script: str | None = None,
    start: Start | None = None,
) -> Configuration:
    """Load an experiment's YAML.

    Arguments
    ---------
    path : str or Path
        A complete file, or a delta (see ``read_flat``), or its name (``find_file``).
    overrides : dict, optional
        Top-level keys from the command line.
    script : str, optional
        ``pretrain`` or ``finetune``: a file that lacks a key of it is refused.
    start : callable, optional
        (tree, values of the command line, path) is called if ``pretrained`` names a
        run: it brings the experiment and the run to one model, or refuses.

    Raises
    ------
    BadInput
        If a file is missing, a key unknown, or a value not acceptable.
    """
    return build(configure(path, overrides, script, start), path)


def configure(
    path: str | Path,
    overrides: dict[str, Any] | None = None,
    script: str | None = None,
    start: Start | None = None,
) -> CommentedMap:
    """Read an experiment into one flat tree; nothing is built.

    Arguments and errors are those of ``load_configuration``.
    """
    tree = _read(find_file(path), overrides or {}, script)
    if start is not None and plain_value(tree, "pretrained") is not None:
        start(tree, {key: tree[key] for key in overrides or {}}, path)
    return tree


def plain_value(tree: CommentedMap, key: str) -> Any:
    """Return a top-level value; references are followed, a lacking key is None.

    Raises
    ------
    BadInput
        If a reference leads nowhere, or to itself.

    Example
    -------
    >>> from speechbrain_birq.config.tree import parse
    >>> tree = parse("{seed: 1, output_folder: !ref a/<seed>}", "x.yaml")
    >>> plain_value(tree, "output_folder")
    'a/1'
    """
    node = tree.get(key)
    text = expression(node)
    if text is None:
        return node
    try:
        return recursive_resolve(text, [], tree)
    except ValueError as error:
        raise BadInput(f"{key}: {text}: {one_line(error)}") from error
    except RecursionError as error:
        raise BadInput(f"{key}: {text} refers to itself: give a value") from error


def _read(path, overrides, script):
    tree, changed = read_flat(path)
    for key in overrides:
        if key not in tree and key not in OPTIONS:
            raise BadInput(unknown(key, tree, COMMAND_LINE))
    given = {
        key: checked_value(key, value, tree.get(key), COMMAND_LINE)
        for key, value in overrides.items()
    }
    apply_changes(tree, given)
    for key, value in tree.items():
        if key not in given:
            where = changed.get(key, path)
            tree[key] = checked_value(key, value, value, where)
    _check_keys(tree, changed, path)
    for key in referenced(tree) & tree.keys():
        where = COMMAND_LINE if key in given else changed.get(key, path)
        _check_text(key, tree[key], where)
    if script is not None:
        _check_script(tree, script, path)
    return tree


def _check_text(key, value, where):
    """HyperPyYAML would replace a part of a text that others refer to."""
    if isinstance(value, str) and (found := ANGLES.search(value)):
        raise BadInput(
            f"{where}: {key} may not hold {found[0]}, which the YAML would read as a "
            f"reference: got {value!r}"
        )


def build(tree: CommentedMap, path: str | Path) -> Configuration:
    """Build the parts of an experiment.

    Raises
    ------
    BadInput
        Naming ``path``, if a part does not take its arguments.
    """
    text = dump(tree)
    _check_arguments(tree, path)
    try:
        resolved = resolve_references(text).getvalue()
        hparams = load_hyperpyyaml(resolved)
        return Configuration(hparams, resolved, text)
    except (
        *(TypeError, ValueError, AttributeError, ImportError),
        *(RuntimeError, MemoryError),  # sizes that no tensor has, circles
        ArithmeticError,  # !ref <d_model> / 0
    ) as error:
        if from_user_code(error):
            raise
        raise BadInput(f"{path}: {one_line(error)}") from error
    except ruamel.yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {one_line(error)}") from error


def _check_keys(tree, changed, path):
    """Keys of one's own are allowed in a complete file; misspelled ones are named."""
    read = READ | OPTIONS | referenced(tree)
    for key in tree:
        if key in read or str(key).startswith("__"):  # HyperPyYAML: run, then gone
            continue
        if key in changed:
            raise BadInput(unknown(key, read, changed[key]))
        nearest = resembles(str(key), read - tree.keys()) or resembles(str(key), read)
        if nearest is not None and key not in KEYS:
            logger.warning(
                "%s: nothing reads the key %r; if it is not one of your own, it is "
                "probably %r misspelled",
                path,
                key,
                nearest,
            )


def _check_script(tree, script, path):
    lacking = _lacking(tree, script)
    if not lacking:
        return
    read = READ | OPTIONS | referenced(tree)
    own = [str(key) for key in tree if key not in read]
    misspelled = resembles(lacking[0], own)
    for other in BOTH:
        if misspelled is None and other != script and not _lacking(tree, other):
            raise BadInput(
                f"{path} is a YAML for {other}.py: {script}.py needs another"
            )
    hint = f" ({misspelled!r} looks like it)" if misspelled else ""
    raise BadInput(f"{path}: {script}.py needs the key {lacking[0]!r}{hint}")


def _lacking(tree, script):
    return [
        name
        for name, key in KEYS.items()
        if script in key.scripts and not key.optional and name not in tree
    ]


def _check_arguments(tree, path):
    """Find unknown names first: a ``!name:`` may be called hours later."""
    for node in nodes(tree):
        kind, _, name = tag_of(node).partition(":")
        if kind not in ("!new", "!name"):
            continue
        if name.startswith("speechbrain_birq.") and pydoc.locate(name) is None:
            raise BadInput(
                f"{path}: this version of speechbrain_birq has no {name}: name another "
                f"class, or use the version that the file was written for"
            )
        if isinstance(node, dict):
            known = arguments_of(name)
            for argument in node:
                if known is not None and argument not in known:
                    raise BadInput(f"{path}: {unknown(argument, known, name)}")
