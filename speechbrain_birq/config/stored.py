"""References of a stored YAML file, which may come from anywhere."""

import ruamel.yaml
from hyperpyyaml import resolve_references
from ruamel.yaml.comments import CommentedMap

from speechbrain_birq.config.tree import (
    INCLUDE,
    REFERENCE,
    expression,
    nodes,
    tag_of,
)

MAX_LENGTH = 10_000  # characters of a reference that is written out


def resolve_stored(text: str) -> CommentedMap:
    """Resolve the references of a run folder's YAML; nothing of it is run.

    Raises
    ------
    ValueError
        If the text is no mapping, or if HyperPyYAML would call a function, read
        another file, or compute without bounds while it resolves references.

    Example
    -------
    >>> resolve_stored("{a: 2, b: !ref <a> * 3}")["b"]
    6
    >>> resolve_stored("{a: !ref 9 ** 9 ** 9}")
    Traceback (most recent call last):
    ValueError: the reference '9 ** 9 ** 9' is not plain
    """
    tree = ruamel.yaml.YAML().load(text)
    if not isinstance(tree, CommentedMap):
        raise ValueError(f"a {type(tree).__name__}, not a mapping")
    lengths: dict[str, int] = {}
    for node in nodes(tree):
        if tag_of(node).startswith(("!applyref:", INCLUDE)):
            raise ValueError(f"{tag_of(node)} is not for a stored file")
        reference = expression(node) or ""
        if "**" in reference or _length(reference, tree, lengths) > MAX_LENGTH:
            raise ValueError(f"the reference {reference[:50]!r} is not plain")
    return ruamel.yaml.YAML().load(resolve_references(text))


def _length(reference, tree, known):
    """Characters of a reference that is written out, at least."""
    if reference not in known:
        known[reference] = MAX_LENGTH  # of a circle
        inner = [tree.get(name) for name in REFERENCE.findall(reference)]
        parts = [
            len(str(node))
            if expression(node) is None
            else _length(expression(node), tree, known)
            for node in inner
            if not isinstance(node, (dict, list))
        ]
        known[reference] = len(reference) + sum(parts)
    return known[reference]
