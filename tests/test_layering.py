"""Layering: thirteen rooms, imports in one direction, a docstring in every module."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import speechbrain_birq

PACKAGE = Path(speechbrain_birq.__file__).parent
ROOT = PACKAGE.parent
NAME = PACKAGE.name
MODULES = sorted(PACKAGE.rglob("*.py"))

# Room -> the rooms next below it. It may import these and all rooms below them.
BELOW = {
    "cli": "experiment",
    "experiment": "brains diagnostics",
    "brains": "inference metrics",
    "diagnostics": "inference metrics",
    "inference": "models decoding",
    "metrics": "models decoding",
    "models": "data",
    "decoding": "data",
    "data": "checkpoints",
    "checkpoints": "config",
    "config": "distributed",
    "distributed": "errors",
    "errors": "",
}
# The same for the parts of models/.
PARTS = {
    "probe": "ctc",
    "birq": "part_sizes masking",
    "part_sizes": "encoders labels objectives",
    "ctc": "encoders labels objectives masking",
    "encoders": "frontend",
    "labels": "frontend",
    "objectives": "frontend",
    "masking": "frontend",
    "frontend": "channel_statistics filterbank",
    "channel_statistics": "",
    "filterbank": "full_precision",
    "full_precision": "",
}


def imports(path):
    """Return the dotted names of everything that a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reachable(below, room):
    """Return a room and every room that it may import."""
    found = {room}
    for lower in below[room].split():
        found |= reachable(below, lower)
    return found


def violations(folder, below, room):
    """Return the imports of a room's files that go to a room not below it."""
    prefix = ".".join([NAME, *folder.relative_to(PACKAGE).parts])
    allowed = reachable(below, room)
    paths = [*(folder / room).rglob("*.py"), *folder.glob(f"{room}.py")]
    assert paths, f"no room {room}"
    names = {name for path in paths for name in imports(path)}
    inside = {name for name in names if name.startswith(f"{prefix}.")}
    rooms = {name: name.removeprefix(f"{prefix}.").split(".")[0] for name in inside}
    known = {name: r for name, r in rooms.items() if r in below}
    return sorted(name for name, r in known.items() if r not in allowed)


def names(paths):
    return [str(path.relative_to(PACKAGE)) for path in paths]


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_rooms_below_it(room):
    assert violations(PACKAGE, BELOW, room) == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_models_imports_only_parts_below_it(part):
    assert violations(PACKAGE / "models", PARTS, part) == []


def test_there_are_thirteen_rooms():
    inside = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert inside - {"__init__", "__main__", "__pycache__"} == BELOW.keys()


@pytest.mark.parametrize("room", [room for room in BELOW if room != "cli"])
def test_a_room_exports_what_it_names(room):
    module = __import__(f"{NAME}.{room}", fromlist=["x"])
    if hasattr(module, "__path__"):
        assert module.__all__
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "hparams").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_yaml_file_uses_public_names_only(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(rf"!(?:new|name|apply):{NAME}\.(\S+)", text):
        room, _, public = name.partition(".")
        assert public in import_module(f"{NAME}.{room}").__all__, name


@pytest.mark.parametrize("name", names(MODULES))
def test_nothing_imports_recipes(name):
    assert not [i for i in imports(PACKAGE / name) if i.split(".")[0] == "recipes"]


@pytest.mark.parametrize("name", names(MODULES))
def test_every_module_says_what_it_is_for(name):
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("name", ["utils", "helpers", "misc", "common"])
def test_there_is_no_room_for_odds_and_ends(name):
    assert not list(PACKAGE.rglob(f"{name}*"))
    assert not list((ROOT / "recipes").rglob(f"{name}*"))


def test_recipes_know_experiments_and_corpora_only():
    for path in (ROOT / "recipes").rglob("*.py"):
        ours = {name for name in imports(path) if name.startswith(NAME)}
        rooms = {name.split(".")[1] for name in ours}
        assert rooms <= {"experiment", "data", "errors", "inference"}, path


def test_errors_import_no_torch():
    """Because a message about a wrong path should not take seconds to appear."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    code += f"; import {NAME}.errors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
