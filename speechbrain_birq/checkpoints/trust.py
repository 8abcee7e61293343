"""YAML of a run folder: only classes of trusted packages are built."""

import pydoc
from collections.abc import Iterable
from pathlib import Path

import ruamel.yaml

from speechbrain_birq.errors import BadInput

TRUSTED = ("speechbrain_birq", "speechbrain", "torch.nn", "torch.optim")


def check_tags(text: str, path: str | Path, trust: Iterable[str] = ()) -> None:
    """Refuse a YAML text that could run anything but constructors of trusted classes.

    Arguments
    ---------
    text : str
        HyperPyYAML text.
    path : str or Path
        The file it comes from, for the message.
    trust : iterable
        Packages that are trusted beside ``TRUSTED``.

    Raises
    ------
    BadInput
        Naming the tag.

    Example
    -------
    >>> check_tags("a: !new:torch.nn.Linear [1, 2]", "architecture.yaml")
    >>> check_tags("a: !apply:os.system [ls]", "architecture.yaml")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: architecture.yaml wants to run !apply:os.system, \
which is not trusted: if you know where the folder comes from, name its package with \
--trust
    """
    trusted = (*TRUSTED, *trust)
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
