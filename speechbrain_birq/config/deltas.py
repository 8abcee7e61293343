"""One flat file of a complete file, a delta to it, and what they include."""

import inspect
import pydoc
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken

from speechbrain_birq.config.checks import unknown
from speechbrain_birq.config.keys import KEYS
from speechbrain_birq.config.tree import (
    REFERENCE,
    expression,
    included,
    nodes,
    read_tree,
    tag_of,
)
from speechbrain_birq.errors import BadInput


class Flat(NamedTuple):
    """An experiment in one tree."""

    tree: CommentedMap  # without includes
    changed: dict[str, Path]  # keys of a delta -> its path


def flatten(path: str | Path) -> CommentedMap:
    """Read an experiment's file, its delta applied and its parts included.

    Example
    -------
    >>> folder = Path(getfixture("tmp_path"))
    >>> _ = (folder / "base.yaml").write_text("lr: 1\\nstack: 2\\n")
    >>> _ = (folder / "delta.yaml").write_text("!include:base.yaml\\nlr: 3\\n")
    >>> dict(flatten(folder / "delta.yaml"))
    {'lr': 3, 'stack': 2}
    """
    return read_flat(Path(path)).tree


def read_flat(path: Path) -> Flat:
    """Read an experiment's file; each file of it is parsed once.

    A file that starts with ``!include:other.yaml`` is a delta: its keys replace those
    of the other file, which must be complete. Names of files are relative to the file
    that holds them.

    Raises
    ------
    BadInput
        If a file is missing or not valid, or a delta names a key that does not exist.
    """
    tree = read_tree(path)
    name = included(tree)
    _include_parts(tree, path)
    if name is None:
        return Flat(tree, {})
    base_path = path.parent / name
    base = read_tree(base_path)
    if included(base) is not None:
        raise BadInput(
            f"{path} is a delta to {base_path}, which is a delta itself: begin with "
            f"!include: of the complete file"
        )
    _include_parts(base, base_path)
    for key in tree:
        if key not in base and key not in KEYS:
            raise BadInput(unknown(key, base.keys() | KEYS.keys(), path))
    apply_changes(base, tree)
    _take_head(base, tree)
    return Flat(base, dict.fromkeys(tree, path))


def apply_changes(tree: CommentedMap, changes: dict[str, Any]) -> None:
    """Replace the values of a tree, in place.

    A mapping without a tag, or with the old one, changes the keys that it names. A part
    of another class keeps the old arguments that the new class takes.

    Example
    -------
    >>> from speechbrain_birq.config.tree import dump, parse
    >>> tree = parse("part: !new:torch.nn.Linear {in_features: 2, bias: no}", "")
    >>> apply_changes(tree, parse("part: !new:torch.nn.LayerNorm {eps: 0.1}", ""))
    >>> print(dump(tree), end="")
    part: !new:torch.nn.LayerNorm
        bias: no
        eps: 0.1
    """
    for key, value in changes.items():
        tree[key] = _replaced(tree.get(key), value)
        _keep_comment(tree, changes, key)


def _replaced(old: Any, new: Any) -> Any:
    if not isinstance(old, CommentedMap):
        return new
    if isinstance(new, dict) and tag_of(new) in ("", tag_of(old)):
        for key, value in new.items():
            old[key] = _replaced(old.get(key), value)
        return old
    if not tag_of(new).startswith(("!new:", "!name:")) or isinstance(new, list):
        return new
    part = CommentedMap()
    part.yaml_set_ctag(new.tag)
    takes = arguments_of(tag_of(new).partition(":")[2])
    part.update({k: v for k, v in old.items() if takes is None or k in takes})
    if isinstance(new, dict):
        part.update(new)
    return part


def arguments_of(name: str) -> set[str] | None:
    """Return the names of a callable's arguments, None if it takes any.

    Raises
    ------
    Exception
        What importing the callable's module raises, a ``SyntaxError`` for example.

    Example
    -------
    >>> sorted(arguments_of("torch.nn.Flatten"))
    ['end_dim', 'start_dim']
    """
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport as error:
        # It has the true error as an attribute only: file and line would not be shown.
        assert isinstance(error.value, BaseException)
        raise error.value from error
    if not callable(found):
        return None  # loading says that there is no such class
    if getattr(found, "__init__", None) is torch.nn.Module.__init__:
        return set()  # its signature is (*args, **kwargs), but it takes nothing
    try:
        parameters = inspect.signature(found).parameters.values()
    except ValueError:  # some builtins have none
        return None
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def _take_head(tree, delta):
    """Begin with the comment of the delta in place of the complete file's first."""
    if delta.ca.comment is None or tree.ca.comment is None:
        return
    lines = "".join(token.value for token in tree.ca.comment[1]).partition("\n\n")
    head = "".join(token.value for token in delta.ca.comment[1])
    tree.ca.comment[1][:] = [
        CommentToken(line, CommentMark(0))
        for line in f"{head}\n{lines[2]}".splitlines(keepends=True)
    ]


def _keep_comment(tree, changes, key):
    """The comment beside a changed value goes along; what follows the line stays."""
    comments = getattr(changes, "ca", None) and changes.ca.items.get(key)
    beside = comments[2] if comments and len(comments) > 2 else None
    own = tree.ca.items.get(key)
    if beside is None or own is None or len(own) < 3 or own[2] is None:
        return
    text = beside.value.partition("\n")[0]
    if text.strip():
        own[2].value = text + "\n" + own[2].value.partition("\n")[2]


def _include_parts(
    tree: CommentedMap, path: Path, place: str = "", above: tuple[Path, ...] = ()
) -> None:
    """Put what ``!include:`` names into the tree.

    References inside an included file mean its own keys, which lie below the key that
    includes it from now on. ``above`` are the files that include this one.
    """
    for key, node in tree.items():
        here = f"{place}[{key}]" if place else str(key)
        name = included(node)
        if name is not None:
            tree[key] = _part(node, path, name, here, above)
        elif isinstance(node, CommentedMap):
            _include_parts(node, path, here, above)


def _part(node, path, name, place, above):
    part_path = path.parent / name
    above = (*above, path.resolve())
    if part_path.resolve() in above:
        raise BadInput(f"{path} includes {part_path}, which includes it: drop one")
    part = read_tree(part_path)
    arguments = dict(node) if isinstance(node, dict) else {}
    for key in arguments:
        if key not in part:
            raise BadInput(unknown(key, part, f"{path}, {place}"))
    own = set(part)
    for inner in nodes(part):
        if expression(inner) is not None:
            inner.value = REFERENCE.sub(
                lambda m: f"<{place}[{m[1]}]" if m[1] in own else m[0], inner.value
            )
    _include_parts(part, part_path, place, above)
    part.update(deepcopy(arguments))
    return part
