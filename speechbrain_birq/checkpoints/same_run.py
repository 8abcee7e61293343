"""Whether settings are those of the run that a folder holds."""

import inspect
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from speechbrain_birq.checkpoints.plain_files import (
    YAML_BYTES,
    corruption_named,
    read_yaml_text,
)
from speechbrain_birq.checkpoints.run_folder import has_checkpoint
from speechbrain_birq.checkpoints.stored_values import Part, StoredValues
from speechbrain_birq.config.keys import KEYS, MAY_CHANGE, PATH
from speechbrain_birq.config.same_model import parameters_of, same_class
from speechbrain_birq.errors import BadInput

ADVICE = "give another --output_folder"
MAX_SHOWN = 200  # characters of a value in the message: a path is longer than a name
NOT_GIVEN = "not given"
PLAIN = (str, int, float, type(None))
UNKNOWN = object()  # only HyperPyYAML could tell the value, by running code
BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
FASTER = frozenset(("foreach", "fused"))  # arguments of torch's optimizers


class Difference(NamedTuple):
    """A key, or an argument below it, with its two values."""

    place: str  # such as label_terms[0].weight
    before: Any
    now: Any


def check_same_run(folder: str | Path, settings: str) -> None:
    """Refuse to resume a run under settings that would make it another one.

    Keys are compared, and so are the classes and the arguments of parts.

    Arguments
    ---------
    folder : str or Path
        The output folder; without a checkpoint in it there is nothing to resume.
    settings : str
        HyperPyYAML text of the settings now, with its references.

    Raises
    ------
    BadInput
        Naming a key or an argument that differs; in a new folder, too, if the settings
        are larger than a resume would read.
    """
    now = _resumable(folder, settings)
    path = Path(folder) / "hyperparams.yaml"
    if not path.is_file() or not has_checkpoint(folder):
        return
    text = read_yaml_text(path, ADVICE)
    with corruption_named(path, ADVICE):
        before = Settings(text)
    found = next(differences(before, now), None)
    if found is not None:
        raise BadInput(
            f"{folder} holds a run with {found.place}: {_shown(found.before)}, now it "
            f"is {_shown(found.now)}: {ADVICE}, or the old value to resume"
        )


def _resumable(folder, settings):
    """The settings now: a run that could not be resumed shall not start."""
    try:
        size = len(settings.encode())
        if size > YAML_BYTES:
            raise ValueError(f"{size} bytes, at most {YAML_BYTES} are read")
        return Settings(settings)
    except ValueError as error:
        raise BadInput(
            f"{folder}: a run with these settings could not be resumed, because they "
            f"cannot be compared ({error}): shorten what is so long in the YAML"
        ) from error


class Settings(StoredValues):
    """Values of a file, ``UNKNOWN`` where only running code would give them.

    Example
    -------
    >>> part = Settings("a: !new:torch.nn.Linear [2, !apply:os.cpu_count []]").of("a")
    >>> part.positional[0], part.positional[1] is UNKNOWN
    (2, True)
    """

    def of(self, key: str) -> Any:
        """Return the value of a top-level key."""
        return self._value(self.nodes[key])

    def take(self, other: "Settings", keys: Iterable[str]) -> None:
        """Replace the values of keys, and so all that follows from them."""
        self.nodes |= {key: other.nodes[key] for key in keys}
        self._known.clear()

    def _value(self, node):
        try:
            return super()._value(node)
        except (ValueError, ArithmeticError):
            return UNKNOWN


def differences(before: Settings, now: Settings) -> Iterator[Difference]:
    """Yield what differs, ``pretrained`` first, then what lies nearest to the top.

    So a key comes before the arguments that follow from it, and an argument before
    those parts that its part belongs to.

    Arguments
    ---------
    before, now : Settings
        The values of ``now`` that may have changed are replaced by those of ``before``.

    Example
    -------
    >>> part = "!new:x.Y {m: !ref <n>, s: !ref <total_steps>}"
    >>> first = Settings("{n: 1, total_steps: 5, a: %s}" % part)
    >>> second = Settings("{n: 2, total_steps: 6, a: %s}" % part)
    >>> for one in differences(first, second):
    ...     print(one)
    Difference(place='n', before=1, now=2)
    Difference(place='a.m', before=1, now=2)
    """
    common = now.nodes.keys() & before.nodes.keys()
    values = {key: now.of(key) for key in common}
    same = {key for key in common if _same_path(key, before.of(key), values[key])}
    # Arguments that follow from a key that may change are compared as if it had not.
    now.take(before, common & MAY_CHANGE | same)
    # The file of an old run lacks keys that came later, and has keys that have gone.
    other_keys = before.nodes.keys() ^ now.nodes.keys()
    waiting: deque[Difference] = deque()
    compared_keys = common - MAY_CHANGE - same
    for key in sorted(compared_keys, key=lambda key: (key != "pretrained", key)):
        value = values[key] if isinstance(values[key], PLAIN) else now.of(key)
        waiting.append(Difference(key, before.of(key), value))
    compared = set()  # several parts may refer to one
    while waiting:
        one = waiting.popleft()
        pair = id(one.before), id(one.now)
        if one.before is UNKNOWN or one.now is UNKNOWN:
            continue
        below = _below(one, other_keys)
        if below is None:
            if _differs(one.before, one.now):
                yield one
        elif pair not in compared:
            compared.add(pair)
            waiting += below


def _same_path(key, first, second):
    """Whether two ways of writing lead to one folder: r/p0, r/p0/, a link to it."""
    if key not in KEYS or KEYS[key].kind is not PATH:
        return False
    texts = isinstance(first, str) and isinstance(second, str)
    return texts and Path(first).resolve() == Path(second).resolve()


def _below(one, other_keys):
    """What must be compared in place of two values, None if it is the values."""
    place, before, now = one
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        pairs = zip(before, now, strict=False)
        items = [Difference(f"{place}[{i}]", *pair) for i, pair in enumerate(pairs)]
        return items if len(before) == len(now) else None
    if isinstance(before, dict) and isinstance(now, dict):
        return _arguments(place, before, now, {}, other_keys)
    parts = isinstance(before, Part) and isinstance(now, Part)
    if not parts or before.kind != now.kind or not same_class(before.name, now.name):
        return None
    # The class was imported already, because the settings now are built.
    parameters = parameters_of(now.name)
    given = (_given(part, parameters) for part in (before, now))
    return _arguments(place, *given, parameters, other_keys)


def _arguments(place, before, now, parameters, other_keys):
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    for name in dict.fromkeys([*before, *now]):
        if name in MAY_CHANGE | FASTER or (place, name) == ("epoch_counter", "limit"):
            continue
        known = parameters.get(name)
        default = known.default if known else NOT_GIVEN
        if name not in now:
            # Earlier versions of a class took other arguments, and earlier files wrote
            # out what a class chooses by itself, such as attention_type.
            gone = parameters and not known and not takes_any
            skipped = gone or default is None or name in other_keys
        else:
            required = default is inspect.Parameter.empty  # so it came later
            skipped = name not in before and (required or name in other_keys)
        if not skipped:
            values = (given.get(name, default) for given in (before, now))
            yield Difference(f"{place}.{name}", *values)


def _given(part, parameters):
    """Arguments by name; those of ``*args`` by number."""
    names = [name for name, p in parameters.items() if p.kind in BY_POSITION]
    numbered = zip(chain(names, count()), part.positional, strict=False)
    return dict(numbered) | part.arguments


def _differs(before, now):
    if callable(before) or callable(now):  # a default, such as torch.nn.ReLU
        return _last_name(before) != _last_name(now)
    return before != now


def _last_name(value):
    name = value.name if isinstance(value, Part) else getattr(value, "__name__", "")
    return name.rpartition(".")[2]


def _shown(value):
    if isinstance(value, Part):
        return value.name[:MAX_SHOWN]
    if isinstance(value, list | tuple):
        value = f"[{', '.join(map(_shown, value))}]"
    elif isinstance(value, dict):
        value = f"{{{', '.join(value)}}}"
    return str(value)[:MAX_SHOWN]
