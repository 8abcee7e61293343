"""Whether a file describes the model that another run has."""

import inspect
import pydoc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hyperpyyaml.core import recursive_resolve
from ruamel.yaml.comments import CommentedMap

from speechbrain_birq.config.keys import ARCHITECTURE
from speechbrain_birq.config.tree import expression, reference_to, tag_of
from speechbrain_birq.errors import BadInput

# Arguments that decide how a model learns, not what its weights mean.
FREE = frozenset(
    """activation_checkpointing chunk chunking dropout label_terms mask_noise_std rounds
    seed selector""".split()
)
OWN_PACKAGE = "speechbrain_birq."
MOST_NAMED = 5
NOTHING: Mapping[str, Any] = {}
Parameters = Mapping[str, inspect.Parameter]


class Difference(NamedTuple):
    """A key, or an argument that no key stands for, with its two values."""

    key: str
    part: str  # frontend, encoder, model or stored_labels
    here: Any
    there: Any

    def __str__(self) -> str:
        return f"{self.key} is {self.there} there and {self.here} here"


def check_same_model(
    tree: CommentedMap, stored: Mapping[str, Any], run: str, path: str | Path
) -> None:
    """Refuse a file whose model is not the one of a run.

    Arguments
    ---------
    tree : CommentedMap
        The experiment, values of the command line included.
    stored : mapping
        Key of the tree -> what the run has there, without references.
    run, path : str or Path
        The run folder and the file, for the message.

    Raises
    ------
    BadInput
        Naming the keys that differ, with both values.
    """
    found = differences(tree, stored)
    if not found:
        return
    named = "; ".join(map(str, found[:MOST_NAMED]))
    more = f"; {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    advice = f"give the values of {run}/hyperparams.yaml, which is a YAML file, too"
    if not any(one.part in ARCHITECTURE for one in found):
        advice += ", or --new_labels True to keep only front end and encoder"
    raise BadInput(f"{path} is not for the model of {run}: {named}{more}: {advice}")


def differences(tree: CommentedMap, stored: Mapping[str, Any]) -> list[Difference]:
    """List what makes two models different; ``FREE`` arguments do not.

    Example
    -------
    >>> from speechbrain_birq.config.tree import parse
    >>> text = "{n: 5, m: !ref 2 * <n>, a: !new:torch.nn.Linear {out_features: %s}}"
    >>> there = parse("a: !new:torch.nn.Linear {out_features: 4, bias: True}", "")
    >>> [str(one) for one in differences(parse(text % "!ref <n>", ""), there)]
    ['n is 4 there and 5 here']
    >>> [str(one) for one in differences(parse(text % "!ref <m>", ""), there)]
    ['m is 4 there and 10 here']
    """
    found: dict[str, Difference] = {}
    computed: dict[str, Difference] = {}
    for name, there in stored.items():
        for key, part, here, other, is_computed in _walk(
            tree, name, name, tree.get(name), there
        ):
            one = Difference(key, part, here, other)
            (computed if is_computed else found).setdefault(key, one)
    # What is computed from other keys, such as the encoder's input_dim, differs because
    # they do.
    return list((found or computed).values())


def _walk(
    tree: CommentedMap, part: str, name: str, here: Any, there: Any
) -> Iterator[tuple[str, str, Any, Any, bool]]:
    name, here = _followed(tree, name, here)
    if _is_part(here) and _is_part(there):
        if not same_class(_class(here), _class(there)):
            yield name, part, _short(here), _short(there), False
            return
        mine, theirs = _arguments(here), _arguments(there)
        defaults = _defaults(_class(here)) if mine.keys() != theirs.keys() else NOTHING
        for argument in dict.fromkeys([*mine, *theirs]):
            if argument not in FREE:
                pair = (
                    each.get(argument, defaults.get(argument))
                    for each in (mine, theirs)
                )
                shared = part == "model" and argument in ARCHITECTURE
                below = argument if shared else part
                yield from _walk(tree, below, argument, *pair)
        return
    text = expression(here)
    value = _plain(here if text is None else recursive_resolve(text, [], tree))
    if value != _plain(there):
        yield name, part, _short(value), _short(there), text is not None


def _followed(tree, name, node):
    """The key that an argument refers to, and what stands there."""
    while (key := reference_to(node)) and key in tree:
        name, node = key, tree[key]
    return name, node


def _is_part(node):
    return tag_of(node).startswith(("!new:", "!name:"))


def _class(node):
    return tag_of(node).partition(":")[2]


def same_class(first: str, second: str) -> bool:
    """Return whether two names mean one class; those of this package have several.

    Example
    -------
    >>> same_class("speechbrain_birq.models.BiRQ", "speechbrain_birq.models.birq.BiRQ")
    True
    """
    both = (first, second)
    own = all(name.startswith(OWN_PACKAGE) for name in both)
    return first == second or (own and len({n.rpartition(".")[2] for n in both}) == 1)


def parameters_of(name: str) -> Parameters:
    """Return the parameters of a class, none if it cannot be imported or has no list.

    Loading says what is wrong with such a class; some that are written in C have none.

    Example
    -------
    >>> list(parameters_of("torch.nn.Flatten")), list(parameters_of("no.Such"))
    (['start_dim', 'end_dim'], [])
    """
    try:
        return inspect.signature(pydoc.locate(name)).parameters  # type: ignore[arg-type]
    except (pydoc.ErrorDuringImport, TypeError, ValueError):
        return {}


def _arguments(node):
    if isinstance(node, dict):
        return node
    return dict(enumerate(node)) if isinstance(node, list) else {}


def _defaults(name):
    parameters = parameters_of(name).values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _plain(value):
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)  # a scalar with a tag, such as !tuple


def _short(value):
    if _is_part(value):
        return _class(value).rpartition(".")[2]
    return str(_plain(value))[:60]
