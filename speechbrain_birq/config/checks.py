"""Values that do not fit their keys, and keys that nothing reads."""

import difflib
import os
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import ruamel.yaml

from speechbrain_birq.config.keys import (
    FLAG,
    KEYS,
    NUMBER,
    PART,
    PATH,
    TEXT,
    TEXTS,
    Kind,
    is_number,
)
from speechbrain_birq.config.tree import one_line, tag_of
from speechbrain_birq.errors import BadInput

COMMAND_LINE = "the command line"
OTHER_NAMES = {  # what other toolkits call our keys
    "learning_rate": "lr",
    "batch_size": "batch_seconds",
    "epochs": "number_of_epochs",
    "num_epochs": "number_of_epochs",
    "max_steps": "optimizer_step_limit",
}


class Given(str):
    """A value as it stands on the command line."""


def checked_value(key: str, value: Any, old: Any, where: str | Path) -> Any:
    """Return the value as its key takes it.

    Arguments
    ---------
    key : str
    value : object
        A value with a tag such as ``!ref`` is left alone. ``Given`` is read as the key
        takes it: paths and texts to the letter, others as YAML.
    old : object
        The file's value. It decides what a key takes that is not in the table.
    where : str or Path
        The place of the value, for the message.

    Raises
    ------
    BadInput
        If the key takes something else.

    Example
    -------
    >>> checked_value("test_splits", "dev", [], "the command line")
    ['dev']
    >>> checked_value("output_folder", Given("001"), "results", "the command line")
    '001'
    >>> checked_value("lr", Given("1e-3"), 1, "the command line")
    0.001
    """
    kind, null = _kind(key, old)
    if isinstance(value, Given):
        value = _read(key, value, kind, null)
    if tag_of(value) or (value is None and null):
        return value
    if kind == PATH and (is_number(value) or isinstance(value, date)):
        value = str(value)
    if kind == PATH and isinstance(value, str):
        value = os.path.expanduser(value)
    if kind == TEXTS and isinstance(value, str):
        value = [value]
    if kind and not kind.fits(value):
        raise BadInput(f"{where}: {key} takes {kind.words}, got {value!r}")
    return value


def unknown(key: object, known: Iterable[object], where: object) -> str:
    """Say that nothing reads a key, and name the nearest one that is read.

    Example
    -------
    >>> unknown("num_layer", ["num_layers", "lr"], "x.yaml")
    "x.yaml: nothing reads the key 'num_layer': did you mean 'num_layers'?"
    """
    names = {str(name) for name in known}
    ours = OTHER_NAMES.get(str(key))
    # Above 0.62, because learning_rate is no misspelling of sample_rate.
    nearest = difflib.get_close_matches(str(key), sorted(names), n=1, cutoff=0.62)
    if ours in names:
        nearest = [ours]
    hint = f": did you mean {nearest[0]!r}?" if nearest else ""
    return f"{where}: nothing reads the key {key!r}{hint}"


def resembles(key: str, known: Iterable[str]) -> str | None:
    """Return the known key of which ``key`` is probably a misspelling.

    Example
    -------
    >>> resembles("log_intervall", ["log_interval"]), resembles("my_lr", ["lr"])
    ('log_interval', None)
    """
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.8)), None)


def _kind(key: str, old: Any) -> tuple[Kind | None, bool]:
    """What a key takes, and whether null is a value; own keys keep their kind."""
    if key in KEYS:
        return KEYS[key].kind, KEYS[key].null
    if isinstance(old, bool):
        return FLAG, False
    if is_number(old):
        return NUMBER, False
    is_text = isinstance(old, str) and not tag_of(old)
    return (TEXT if is_text else None), False


def _read(key, text, kind, null):
    if null and text == "null":
        return None
    literal = kind is not None and kind.literal
    if literal or (kind == TEXTS and not text.startswith("[")):
        return str(text)
    try:
        value = ruamel.yaml.YAML(typ="safe", pure=True).load(str(text))
    except ruamel.yaml.YAMLError as error:
        if re.search(r"(^|[\s\[{,])!", text):
            raise BadInput(
                f"{COMMAND_LINE}: the value of {key} may not hold a tag such as !new: "
                f"or !apply: (write it into a YAML file that begins with !include:)"
            ) from error
        raise BadInput(
            f"{COMMAND_LINE}: the value of {key} is not valid YAML: {one_line(error)}"
        ) from error
    if kind == PART and not isinstance(value, dict):
        raise BadInput(
            f"{COMMAND_LINE}: {key} is a part, which a YAML file builds: replace it in "
            f"a file that begins with !include:"
        )
    return value
