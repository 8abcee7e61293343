"""YAML of a stored file as nodes: within bounds, and nothing is built from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import ruamel.yaml
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from speechbrain_birq.checkpoints.plain_files import MAX_DEPTH

MAX_NODES = 20_000  # a run's file has 400; what an alias repeats counts each time
MAX_TEXT = 10_000  # characters of a scalar


@dataclass(eq=False)
class Scalar:
    """A value that is text so far; ``plain``: without quotes."""

    tag: str
    value: str
    plain: bool
    size: int = 1


@dataclass(eq=False)
class Sequence:
    """A list of nodes."""

    tag: str
    items: list["Node"]
    size: int = 1  # nodes, those below it included


@dataclass(eq=False)
class Mapping:
    """Pairs of nodes, in the file's order."""

    tag: str
    pairs: list[tuple["Node", "Node"]]
    size: int = 1


Node: TypeAlias = Scalar | Sequence | Mapping


def compose(text: str) -> Mapping:
    """Parse the YAML text of a stored file.

    An alias is the node that it names, so that shared parts stay shared. Tags are kept
    as texts.

    Raises
    ------
    ValueError
        If the text is no single mapping, has a directive, or exceeds a bound.
    ruamel.yaml.YAMLError
        If it is not valid YAML.

    Example
    -------
    >>> compose("a: !new:os.system [x]").pairs[0][1].tag
    '!new:os.system'
    >>> compose("%TAG !! !include:\\n---\\na: 1")
    Traceback (most recent call last):
    ValueError: '%TAG !! !include:' is a directive
    """
    text = text.removeprefix("\ufeff")
    # YAML skips unknown directives silently, so events do not show all of them.
    for line in text.splitlines():
        if line.startswith("%"):
            raise ValueError(f"{line[:50]!r} is a directive")
    events = ruamel.yaml.YAML(typ="safe", pure=True).parse(text)
    root = _Composer(events).document()
    if not isinstance(root, Mapping):
        raise ValueError("it is no mapping")
    return root


class _Composer:
    """Makes nodes of events; stops at the first event that exceeds a bound."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.anchors: dict[str, Node] = {}

    def document(self) -> Node:
        self._expect(StreamStartEvent)
        start = next(self.events)
        if isinstance(start, StreamEndEvent):
            raise ValueError("it is empty")
        if not isinstance(start, DocumentStartEvent) or start.version or start.tags:
            raise ValueError("it has directives")
        root = self._node(next(self.events), 0)
        self._expect(DocumentEndEvent)
        self._expect(StreamEndEvent)
        return root

    def _expect(self, kind):
        if not isinstance(next(self.events), kind):
            raise ValueError("it holds more than one document")

    def _node(self, event, depth):
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:  # one that contains itself, too
                raise ValueError(f"the alias *{event.anchor} names nothing above it")
            return self.anchors[event.anchor]
        node = self._new(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _new(self, event, depth):
        tag = event.tag or ""
        if isinstance(event, ScalarEvent):
            if len(event.value) > MAX_TEXT:
                raise ValueError(f"a value has more than {MAX_TEXT} characters")
            return Scalar(tag, event.value, plain=not event.style)
        if isinstance(event, SequenceStartEvent):
            sequence = Sequence(tag, [])
            for item in self._until(SequenceEndEvent):
                sequence.items.append(_counted(sequence, self._node(item, depth + 1)))
            return sequence
        if isinstance(event, MappingStartEvent):
            return self._mapping(Mapping(tag, []), depth)
        raise ValueError("not valid YAML")

    def _mapping(self, mapping, depth):
        names = set()
        for event in self._until(MappingEndEvent):
            key = _counted(mapping, self._node(event, depth + 1))
            value = _counted(mapping, self._node(next(self.events), depth + 1))
            if isinstance(key, Scalar):
                if key.value in names:
                    raise ValueError(f"the key {key.value[:50]!r} is given twice")
                names.add(key.value)
            mapping.pairs.append((key, value))
        return mapping

    def _until(self, end):
        while not isinstance(event := next(self.events), end):
            yield event


def _counted(parent, node):
    parent.size += node.size
    if parent.size > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES} values")
    return node
