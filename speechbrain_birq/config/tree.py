"""YAML text as a tree that keeps tags and comments; a text is parsed once."""

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import ruamel.yaml
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import CommentMark
from ruamel.yaml.nodes import MappingNode, SequenceNode
from ruamel.yaml.representer import RoundTripRepresenter

from speechbrain_birq.errors import BadInput

REFERENCE = re.compile(r"<([A-Za-z_]\w*)")
ALONE = re.compile(f"{REFERENCE.pattern}>")
INCLUDE = "!include:"
CPP = re.compile(r" Exception raised from |,? but expected one of: ")
# A comment of the line above: those of a line of their own are indented less.
MOVED = re.compile(
    r"^(\s*\w+: (?:![\w:.]+\n\s+|[^\n#]*[^\n#|>+-]\n {9,}))(#.*)$", re.MULTILINE
)


class _Writer(RoundTripRepresenter):
    """Writes null, True and False as the files here have them."""


def _constant(writer, value):
    word = "null" if value is None else str(value)
    kind = "null" if value is None else "bool"
    return writer.represent_scalar(f"tag:yaml.org,2002:{kind}", word)


for _type in (bool, type(None)):
    _Writer.add_representer(_type, _constant)


def read_tree(path: Path) -> CommentedMap:
    """Parse a YAML file that holds keys.

    Raises
    ------
    BadInput
        If there is no such file, or it cannot be read, or it is not valid YAML, or it
        holds no keys.
    """
    if not path.is_file():
        raise BadInput(f"no YAML file {path}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as UTF-8 text: {error}") from error
    tree = parse(text, path)
    if not isinstance(tree, CommentedMap):
        raise BadInput(f"{path} holds no keys")
    return tree


def parse(text: str, where: str | Path) -> Any:
    """Parse YAML text; a key that is given twice is refused at every depth.

    Raises
    ------
    BadInput
        Naming ``where`` and the place.

    Example
    -------
    >>> parse("a: !new:x.Y {b: 1, b: 2}", "x.yaml")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: x.yaml is not valid YAML: the key 'b' is given \
twice (again in line 1): keep one
    """
    yaml = ruamel.yaml.YAML()
    try:
        constructor, _ = yaml.get_constructor_parser(StringIO(text))
        node = yaml.composer.get_single_node()
        _refuse_keys(node, where)
        return None if node is None else constructor.construct_document(node)
    except ruamel.yaml.YAMLError as error:
        raise BadInput(f"{where} is not valid YAML: {one_line(error)}") from error
    except RecursionError as error:
        raise BadInput(
            f"{where}: an anchor (&) holds itself, or values are nested too deep"
        ) from error


def dump(tree: dict[str, Any]) -> str:
    """Write a tree as YAML text, its comments included."""
    for comments in getattr(tree, "ca", CommentedMap().ca).items.values():
        if len(comments) > 2 and comments[2] is not None:
            # One blank before a comment, however long the value was once.
            comments[2].start_mark = CommentMark(0)
    yaml, text = ruamel.yaml.YAML(), StringIO()
    yaml.Representer = _Writer
    yaml.indent(mapping=4, sequence=4, offset=2)
    yaml.width = 1000  # lines stay as they are
    yaml.dump(tree, text)
    # ruamel moves a comment behind a tag into a line of its own: back again.
    return MOVED.sub(lambda m: f"{m[1].rstrip()} {m[2]}", text.getvalue())


def tag_of(node: Any) -> str:
    """Return a node's tag, such as ``!ref``, or an empty text."""
    return getattr(getattr(node, "tag", None), "value", None) or ""


def included(node: Any) -> str | None:
    """Return the file that a node includes, if it does."""
    tag = tag_of(node)
    return tag.removeprefix(INCLUDE) if tag.startswith(INCLUDE) else None


def expression(node: Any) -> str | None:
    """Return what stands behind ``!ref`` or ``!copy``, if the node is one of them."""
    return node.value if tag_of(node) in ("!ref", "!copy") else None


def reference_to(node: Any) -> str | None:
    """Return the top-level key that a node refers to, if it is that and nothing else.

    Example
    -------
    >>> tree = parse("{a: !ref <lr>, b: !ref 2 * <lr>, c: !ref '<d[e]>', d: 1}", "")
    >>> [reference_to(node) for node in tree.values()]
    ['lr', None, None, None]
    """
    found = ALONE.fullmatch((expression(node) or "").strip())
    return found[1] if found else None


def nodes(tree: Any) -> Iterator[Any]:
    """Walk over a node and everything below it."""
    yield tree
    if isinstance(tree, dict):
        for node in tree.values():
            yield from nodes(node)
    elif isinstance(tree, list):
        for node in tree:
            yield from nodes(node)


def referenced(tree: Any) -> set[str]:
    """Return the top-level keys that references in a tree name.

    Example
    -------
    >>> tree = parse("{a: 1, b: !ref <a> + 1, c: [!ref '<d[e]>']}", "x.yaml")
    >>> sorted(referenced(tree))
    ['a', 'd']
    """
    texts = (expression(node) for node in nodes(tree))
    return {name for text in texts if text for name in REFERENCE.findall(text)}


def one_line(error: Exception) -> str:
    """Return an error's texts in one line of at most 400 characters.

    torch adds the frames of its C++ code, and every signature that would have fitted.

    Example
    -------
    >>> one_line(TypeError("no size\\nException raised from f at g.h:7\\nframe #0: f"))
    'no size'
    """
    texts = [str(argument) for argument in error.args] or [str(error)]
    return CPP.split(" ".join(" ".join(texts).split()))[0][:400]


def _refuse_keys(node, where):
    if isinstance(node, MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key.value, str):  # {{ lr }}
                raise BadInput(
                    f"{where} is not valid YAML: line {key.start_mark.line + 1} has a "
                    f"mapping or a list as a key: write a text"
                )
            if key.value in seen:
                raise BadInput(
                    f"{where} is not valid YAML: the key {key.value!r} is given twice "
                    f"(again in line {key.start_mark.line + 1}): keep one"
                )
            seen.add(key.value)
            _refuse_keys(value, where)
    elif isinstance(node, SequenceNode):
        for value in node.value:
            _refuse_keys(value, where)
