"""Check and build the parts that a run folder describes, and describe them anew."""

import inspect
import math
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import ruamel.yaml
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_birq.checkpoints.listed_classes import (
    FRACTIONS,
    LAYERS,
    NAMES,
    NULLABLE,
    RANGES,
    ROLES,
    NotTrusted,
    find_class,
    is_missing,
)
from speechbrain_birq.checkpoints.plain_files import corruption_named
from speechbrain_birq.checkpoints.stored_values import Part, finite
from speechbrain_birq.errors import BadInput

# No quotes, brackets or signs of YAML: these texts are written into other files.
TEXT = re.compile(r"[\w./+@:,= -]{0,200}")
MAX_NUMBER = 2**64
MAX_VALUES = 10_000
MAX_LAYERS = 128  # of all encoders together
FREE_BYTES = 2**28  # weights of a model without a checkpoint
TRAIN_AGAIN = "train again, or take another run folder"
OTHER_VERSION = (
    "this version of speechbrain_birq does not have: use the version that trained the "
    f"run, {TRAIN_AGAIN}"
)
NOT_TRUSTED = (
    "is not trusted: if you know where the folder comes from, name its package with "
    "--trust"
)


class Parts:
    """Parts of a run folder, once they are checked.

    Arguments
    ---------
    path : str or Path
        The file that describes them, for the messages.
    values : dict
        Role -> what the file says; a role is ``frontend``, ``encoder`` or ``model``.
    trust : iterable
        Further packages whose classes may be built.

    Raises
    ------
    BadInput
        If a class is neither listed nor in a trusted package, or an argument is not
        acceptable.

    Example
    -------
    >>> from speechbrain_birq.checkpoints.stored_values import StoredValues
    >>> values = StoredValues("encoder: !new:torch.optim.SGD {params: []}")
    >>> Parts("architecture.yaml", {"encoder": values.value("encoder")})
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: architecture.yaml wants to build \
torch.optim.SGD, which is not trusted: if you know where the folder comes from, name \
its package with --trust
    """

    def __init__(
        self, path: str | Path, values: dict[str, Any], trust: Iterable[str] = ()
    ) -> None:
        self.path, self.values, self.trust = path, values, tuple(trust)
        self.foreign = False  # whether there are classes of trusted packages
        self._classes: dict[int, type] = {}
        self._count = self._layers = 0
        with corruption_named(path, TRAIN_AGAIN):
            try:
                for role, value in values.items():
                    self._check_role(role, value)
            except NotTrusted as error:
                reason = OTHER_VERSION if is_missing(str(error)) else NOT_TRUSTED
                raise BadInput(
                    f"{path} wants to build {error}, which {reason}"
                ) from error

    def build(self, max_bytes: int | None = None) -> dict[str, Any]:
        """Build all parts; one that is described once is built once.

        Arguments
        ---------
        max_bytes : int, optional
            Memory for weights. Classes of trusted packages take what they need.

        Raises
        ------
        BadInput
            If a class refuses its arguments, or the weights need more memory.
        """
        built: dict[int, Any] = {}
        if max_bytes is None or self.foreign:
            return {name: self._built(v, built) for name, v in self.values.items()}
        with _Budget(max_bytes):
            return {name: self._built(v, built) for name, v in self.values.items()}

    def tree(self) -> CommentedMap:
        """Describe the parts as YAML, with today's names of their classes."""
        known: dict[int, Any] = {}
        return CommentedMap((k, _tree(v, known)) for k, v in self.values.items())

    def _check_role(self, role, value):
        if not isinstance(value, Part) or value.kind != "new":
            raise ValueError(f"{role} is no !new: of a class")
        self._check(role, value)
        if not self._is_foreign(value) and _short(value.name) not in ROLES[role]:
            wanted = " or ".join(ROLES[role])
            raise ValueError(f"{role} is {_words(value)}, not of class {wanted}")

    def _is_foreign(self, part):
        return part.name not in NAMES

    def _check(self, where, value):
        """Check a value and all below it."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES} values")
        if isinstance(value, Part):
            if id(value) not in self._classes:
                self._check_part(value)
        elif isinstance(value, list | tuple):
            for item in value:
                self._check(where, item)
        elif isinstance(value, dict):
            for key, item in value.items():
                _check_text("a key", key)
                self._check(key, item)
        elif isinstance(value, str):
            _check_text(where, value)
        elif value is not None and abs(finite(value)) > MAX_NUMBER:
            raise ValueError(f"{where}: {value} is too large")

    def _check_part(self, part):
        self._classes[id(part)] = kind = find_class(part.name, self.trust)
        self.foreign = self.foreign or self._is_foreign(part)
        self._check("an argument", list(part.positional))
        self._check("an argument", part.arguments)
        if part.kind == "new":
            _check_signature(kind, part)
        if part.name in NAMES and part.name not in LAYERS:
            self._check_own(part)

    def _check_own(self, part):
        """Check a class of this package: what each argument may be is known."""
        if part.kind != "new":
            raise ValueError(f"!name:{part.name} is not allowed, only !new:")
        for name, value in part.arguments.items():
            if value is None and name in NULLABLE:
                continue
            if name in ROLES:
                self._check_role(name, value)
            elif name in RANGES:
                _check_range(name, value)
            elif isinstance(value, dict) or _holds_parts(value):
                raise ValueError(f"{name} of {part.name} is no plain value")
        self._layers += part.arguments.get("num_layers", 0)
        if self._layers > MAX_LAYERS:
            raise ValueError(f"more than {MAX_LAYERS} layers")

    def _built(self, value, built):
        if isinstance(value, list | tuple):
            return type(value)(self._built(item, built) for item in value)
        if isinstance(value, dict):
            return {key: self._built(item, built) for key, item in value.items()}
        if not isinstance(value, Part):
            return value
        if id(value) not in built:
            positional = self._built(value.positional, built)
            arguments = self._built(value.arguments, built)
            built[id(value)] = self._made(value, positional, arguments)
        return built[id(value)]

    def _made(self, part, positional, arguments):
        kind = self._classes[id(part)]
        if part.kind == "name":
            given = positional or arguments
            return partial(kind, *positional, **arguments) if given else kind
        if self._is_foreign(part):  # its errors are shown as Python shows them
            return kind(*positional, **arguments)
        try:
            return kind(*positional, **arguments)
        except Exception as error:  # torch raises many kinds
            with corruption_named(self.path, TRAIN_AGAIN):
                raise ValueError(f"{part.name}: {error}") from error


class _Budget(TorchDispatchMode):
    """Refuses tensors before they are made, once all together need more memory."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes, self.bytes = max_bytes, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore
        size = args[0] if args else ()
        if isinstance(size, list | tuple) and all(isinstance(n, int) for n in size):
            self.bytes += 4 * math.prod(size)
            if self.bytes > self.max_bytes:
                raise ValueError(
                    f"the weights need more than {self.max_bytes / 2**20:.0f} MB, much "
                    f"more than the checkpoint has"
                )
        return function(*args, **(kwargs or {}))


def weights_allowed(run_folder: str | Path) -> int:
    """Return how many bytes the weights of a run may need: its checkpoints have them.

    Weights may be stored in half precision, and layers are made more than once.
    """
    paths = Path(run_folder).glob("save/CKPT+*/model.ckpt")
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return FREE_BYTES + 4 * max(sizes, default=0)


def _check_signature(kind, part):
    try:
        signature = inspect.signature(kind)
    except ValueError:  # some classes that are written in C have none
        return
    try:
        signature.bind(*part.positional, **part.arguments)
    except TypeError as error:
        raise ValueError(f"{part.name}: {error}") from error


def _words(value):
    return f"a {value.name}" if isinstance(value, Part) else repr(value)[:50]


def _short(name):
    return NAMES[name].rpartition(".")[2]


def _check_text(where, text):
    if not TEXT.fullmatch(text):
        raise ValueError(f"{where}: {text[:50]!r} is no plain text")


def _check_range(name, value):
    low, high = RANGES[name]
    number = isinstance(value, int) and not isinstance(value, bool)
    if name in FRACTIONS and isinstance(value, float):
        number = True
    if not number or not low <= value <= high:
        whole = "number" if name in FRACTIONS else "whole number"
        raise ValueError(f"{name} is {_words(value)}, no {whole} from {low} to {high}")


def _holds_parts(value):
    items = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(item, Part | list | tuple | dict) for item in items)


def _tree(value, known):
    if isinstance(value, tuple):  # of numbers
        comma = "," if len(value) == 1 else ""
        text = f"({', '.join(map(repr, value))}{comma})"
        return TaggedScalar(text, None, "!tuple")
    if isinstance(value, list):
        return CommentedSeq(_tree(item, known) for item in value)
    if isinstance(value, dict):
        return CommentedMap((k, _tree(item, known)) for k, item in value.items())
    if not isinstance(value, Part):
        return value
    if id(value) not in known:
        content = list(value.positional) or value.arguments
        known[id(value)] = node = _tree(content, known)
        name = NAMES.get(value.name, value.name)
        node.yaml_set_ctag(ruamel.yaml.Tag(suffix=f"!{value.kind}:{name}"))
    return known[id(value)]
