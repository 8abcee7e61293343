"""Values of a stored YAML file: plain data, and descriptions of parts."""

import ast
import math
import operator
import re
from dataclasses import dataclass
from typing import Any

import ruamel.yaml
from ruamel.yaml.nodes import ScalarNode

from speechbrain_birq.checkpoints.plain_files import MAX_DEPTH
from speechbrain_birq.checkpoints.stored_yaml import (
    MAX_TEXT,
    Mapping,
    Node,
    Scalar,
    Sequence,
    compose,
)

CONSTANTS = {"null": None, "~": None, "": None, "true": True, "false": False}
INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
TUPLE = re.compile(r"\(.*\)")
# Numbers of a tuple: only those that every version of YAML reads alike.
ITEM = re.compile(r"\s*[-+]?(0|[1-9][0-9]{0,29})(\.[0-9]+)?\s*")
REFERENCE = re.compile(r"<([^<>]*)>")
ARITHMETIC = re.compile(r"[-+*/%().\s0-9]{1,200}")
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
KINDS = ("new", "name")
RESOLVER = ruamel.yaml.YAML(typ="safe", pure=True).resolver


@dataclass(eq=False, frozen=True)
class Part:
    """``!new:`` (an instance) or ``!name:`` (a class with arguments) of a class."""

    kind: str
    name: str
    positional: tuple[Any, ...]
    arguments: dict[str, Any]


class StoredValues:
    """Values of a stored file, which may come from anywhere; nothing of it is run.

    Numbers, texts, booleans, null, lists, mappings, tuples of numbers, references, and
    ``Part`` for ``!new:`` and ``!name:``. A key that nobody asks for is not looked at,
    because a training's own YAML may hold anything.

    Arguments
    ---------
    text : str
        HyperPyYAML text.

    Raises
    ------
    ValueError
        As for ``compose``; in ``value``, if the value is anything else.

    Example
    -------
    >>> values = StoredValues("{a: 2, b: !ref <a> * 3, c: !apply:os.getcwd []}")
    >>> values.value("b")
    6
    >>> values.value("c")
    Traceback (most recent call last):
    ValueError: the tag '!apply:os.getcwd' is not allowed
    """

    def __init__(self, text: str) -> None:
        self.nodes: dict[str, Node] = {}
        for key, node in compose(text).pairs:
            if not isinstance(key, Scalar) or key.tag:
                raise ValueError("a key is no text")
            self.nodes[key.value] = node
        self._known: dict[int, Any] = {}
        self._open: list[int] = []

    def value(self, key: str) -> Any:
        """Return the value of a top-level key.

        Raises
        ------
        ValueError
            If there is no such key, or its value is not plain.
        """
        if key not in self.nodes:
            raise ValueError(f"no key {key!r}")
        return self._value(self.nodes[key])

    def scalars(self) -> dict[str, Any]:
        """Return the top-level keys whose values are texts, numbers or null."""
        found = {}
        for key in self.nodes:
            try:
                value = self.value(key)
            except (ValueError, ArithmeticError):
                continue
            if value is None or isinstance(value, str | int | float):
                found[key] = value
        return found

    def _value(self, node):
        if id(node) in self._known:
            return self._known[id(node)]
        if id(node) in self._open:
            raise ValueError("a reference leads to itself")
        if len(self._open) > MAX_DEPTH:
            raise ValueError("nested too deeply")
        self._open.append(id(node))
        try:
            value = self._new_value(node)
        finally:
            self._open.pop()
        self._known[id(node)] = value
        return value

    def _new_value(self, node):
        kind, _, name = node.tag.removeprefix("!").partition(":")
        if kind in KINDS and node.tag == f"!{kind}:{name}":
            return self._part(kind, name, node)
        if node.tag == "!ref" and isinstance(node, Scalar):
            return self._reference(node.value)
        if node.tag == "!tuple" and isinstance(node, Scalar):
            return _tuple(node.value)
        if node.tag:
            raise ValueError(f"the tag {node.tag[:100]!r} is not allowed")
        if isinstance(node, Scalar):
            return scalar_value(node.value) if node.plain else node.value
        return self._children(node)

    def _children(self, node):
        if isinstance(node, Sequence):
            return [self._value(item) for item in node.items]
        return {_key(key): self._value(value) for key, value in node.pairs}

    def _part(self, kind, name, node):
        if isinstance(node, Scalar):
            if node.value:
                raise ValueError(f"a value behind !{kind}:{name[:100]}")
            return Part(kind, name, (), {})
        found = self._children(node)
        if isinstance(node, Mapping):
            return Part(kind, name, (), found)
        return Part(kind, name, tuple(found), {})

    def _reference(self, text):
        if whole := REFERENCE.fullmatch(text.strip()):
            return self._value(self._node(whole[1]))
        if not REFERENCE.search(text):
            return text
        written = REFERENCE.sub(lambda found: self._text(found[1]), text)
        if len(written) > MAX_TEXT:
            raise ValueError(f"a reference has more than {MAX_TEXT} characters")
        return _computed(written)

    def _text(self, path):
        value = self._value(self._node(path))
        if value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"<{path[:50]}> is no text or number")
        return str(value)

    def _node(self, path):
        """Find ``a[b]``: the value of b below the key a."""
        first, *others = path.split("[")
        node = self.nodes.get(first)
        for name in others:
            pairs = node.pairs if isinstance(node, Mapping) else ()
            below = {key.value: v for key, v in pairs if isinstance(key, Scalar)}
            node = below.get(name.removesuffix("]"))
        if node is None:
            raise ValueError(f"the reference <{path[:50]}> names nothing")
        return node


def _key(node):
    if not isinstance(node, Scalar) or node.tag or node.value == "<<":
        raise ValueError("a key is no text")
    return node.value


def scalar_value(text: str) -> Any:
    """Return the value of a scalar without quotes, as HyperPyYAML understands it.

    Raises
    ------
    ValueError
        If it is a number that is not finite or not decimal, a date, or a tuple of
        anything but numbers.

    Example
    -------
    >>> [scalar_value(text) for text in ("1e-3", "True", "null", "yes", "(64, 32)")]
    [0.001, True, None, 'yes', (64, 32)]
    """
    if TUPLE.fullmatch(text):
        return _tuple(text)
    tag = str(RESOLVER.resolve(ScalarNode, text, (True, False)))
    kind = tag.rpartition(":")[2]
    if kind == "str":
        return text
    if kind in ("null", "bool"):
        return CONSTANTS[text.lower()]
    if kind == "int" and INTEGER.fullmatch(text):
        return int(text)
    if kind == "float" and FLOAT.fullmatch(text):
        return finite(float(text))
    raise ValueError(f"{text[:50]!r} is neither a text nor a decimal number")


def finite(number: float) -> float:
    """Return a number, if it is finite.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not math.isfinite(number):
        raise ValueError(f"the number {number} is not finite")
    return number


def _tuple(text):
    if not TUPLE.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is no tuple of numbers")
    items = text[1:-1].split(",")
    if not items[-1].strip():
        items.pop()
    if not all(ITEM.fullmatch(item) for item in items):
        raise ValueError(f"{text[:50]!r} is no tuple of numbers")
    return tuple(scalar_value(item.strip()) for item in items)


def _computed(text):
    """Compute what is arithmetic; other texts stay as they are."""
    if not ARITHMETIC.fullmatch(text):
        return text
    try:
        value = _evaluated(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, KeyError):
        return text
    return finite(value)


def _evaluated(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp):
        compute = OPERATORS[type(node.op)]
        return compute(_evaluated(node.left), _evaluated(node.right))
    raise KeyError(type(node))
