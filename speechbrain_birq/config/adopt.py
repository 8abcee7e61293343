"""A pretrained run's front end and encoder take the place of the file's."""

from typing import Any

from ruamel.yaml.comments import CommentedMap

from speechbrain_birq.config.keys import ARCHITECTURE
from speechbrain_birq.config.tree import reference_to, referenced, tag_of
from speechbrain_birq.errors import BadInput

OWN = "dropout"  # fine-tuning has a dropout of its own


def adopt(
    tree: CommentedMap, architecture: CommentedMap, given: dict[str, Any]
) -> None:
    """Write the values of a run's front end and encoder into an experiment.

    A top-level key that an argument refers to gets the run's value, so that the tree
    says what the model is.

    Arguments
    ---------
    tree : CommentedMap
        The experiment; changed in place.
    architecture : CommentedMap
        ``frontend`` and ``encoder`` of the run, without references.
    given : dict
        Values of the command line.

    Raises
    ------
    BadInput
        If the command line gives a value that the run's model contradicts.
    """
    named = {name for part in ARCHITECTURE for name in referenced(tree[part])} - {OWN}
    for part in ARCHITECTURE:
        tree[part] = _adopted(tree, tree[part], architecture[part])
    still = referenced(tree)
    for key in sorted(named & given.keys()):
        if key not in still:
            raise BadInput(_refusal(tree, key, "has no such key"))
        if tree[key] != given[key]:
            raise BadInput(_refusal(tree, key, f"has {tree[key]}, not {given[key]}"))


def _refusal(tree, key, has):
    return (
        f"the command line: {key} comes with the encoder of {tree['pretrained']}, "
        f"which {has}: leave --{key} out"
    )


def _adopted(tree, old, new):
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    for argument in [*old]:
        if argument not in new and argument != OWN:
            del old[argument]
    for argument, value in new.items():
        if argument == OWN and OWN in old:
            continue
        key = reference_to(old.get(argument))
        if key in tree:
            tree[key] = value
        else:
            old[argument] = value
    if tag_of(old) != tag_of(new):
        old.yaml_set_ctag(new.tag)
    return old
