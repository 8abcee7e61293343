"""Public signatures are annotated."""

import ast

import pytest
from test_layering import BELOW, PACKAGE

ROOMS = [*BELOW, "__init__", "__main__"]


def public_functions(tree, prefix=""):
    """Yield (name, node) of the functions and methods without a leading "_"."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node, f"{node.name}.")
        special = getattr(node, "name", "") in ("__init__", "__call__")
        if isinstance(node, ast.FunctionDef) and (special or node.name[0] != "_"):
            yield prefix + node.name, node


def unannotated(node):
    """Return the names of arguments without a type, and "return" if it has none."""
    arguments = node.args
    everything = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    everything += [a for a in (arguments.vararg, arguments.kwarg) if a]
    names = [a.arg for a in everything if a.annotation is None]
    if node.returns is None and node.name != "__init__":
        names.append("return")
    return [name for name in names if name not in ("self", "cls")]


@pytest.mark.parametrize("room", ROOMS)
def test_public_signatures_are_annotated(room):
    paths = [*(PACKAGE / room).rglob("*.py"), *PACKAGE.glob(f"{room}.py")]
    assert paths
    missing = {
        f"{path.relative_to(PACKAGE)}: {name}": unannotated(node)
        for path in paths
        for name, node in public_functions(ast.parse(path.read_text(encoding="utf-8")))
        if unannotated(node)
    }
    assert missing == {}
