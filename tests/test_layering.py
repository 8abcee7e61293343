"""Layering: imports go one way, every module says what it is for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import speechbrain_birq

PACKAGE = Path(speechbrain_birq.__file__).parent
ROOT = PACKAGE.parent
NAME = PACKAGE.name
MODULES = sorted(PACKAGE.rglob("*.py"))
LEAVES = [
    "frontend",
    "encoder",
    "quantizer",
    "selection",
    "masking",
    "objectives",
    "normalization",
]


def imports(path):
    """Full dotted names of everything that a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden(path, *rooms):
    """Imports of a file that lie in one of the rooms."""
    prefixes = [f"{NAME}.{room}" for room in rooms]
    return sorted(
        name
        for name in imports(path)
        if any(name == p or name.startswith(f"{p}.") for p in prefixes)
    )


def names(paths):
    return [str(path.relative_to(PACKAGE)) for path in paths]


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_know_nothing_above_them(leaf):
    above = ["model", "brains", "experiment", "data", "diagnostics", "cli", "asr"]
    assert forbidden(PACKAGE / f"{leaf}.py", *above) == []


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_know_of_each_other_only_the_frames(leaf):
    others = [other for other in LEAVES if other not in (leaf, "frontend")]
    assert forbidden(PACKAGE / f"{leaf}.py", *others) == []


@pytest.mark.parametrize("name", names(PACKAGE.glob("data/*.py")))
def test_data_knows_no_model(name):
    rooms = ["model", "asr", "brains", "encoder", "experiment", "diagnostics"]
    assert forbidden(PACKAGE / name, *rooms) == []


@pytest.mark.parametrize("name", names(PACKAGE.glob("diagnostics/*.py")))
def test_diagnostics_know_no_brain(name):
    assert forbidden(PACKAGE / name, "brains", "experiment") == []


@pytest.mark.parametrize("name", ["model.py", "asr.py", "streaming.py"])
def test_models_know_neither_brains_nor_data(name):
    assert forbidden(PACKAGE / name, "brains", "data", "experiment") == []


@pytest.mark.parametrize("name", names(PACKAGE.glob("brains/*.py")))
def test_brains_know_neither_data_nor_experiments(name):
    assert forbidden(PACKAGE / name, "data", "experiment", "cli") == []


@pytest.mark.parametrize(
    "name",
    """
    attention.py chunking.py ebranchformer.py errors.py inputs.py schedules.py
    statistics.py
    """.split(),
)
def test_some_modules_know_nothing_of_the_package(name):
    assert not [found for found in imports(PACKAGE / name) if found.startswith(NAME)]


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


@pytest.mark.parametrize("leaf", [*LEAVES, "schedules", "tokens", "data/pipeline"])
def test_modules_that_the_design_names_exist(leaf):
    assert (PACKAGE / f"{leaf}.py").is_file()


def test_recipes_know_experiments_and_corpora_only():
    for path in (ROOT / "recipes").rglob("*.py"):
        ours = {name for name in imports(path) if name.startswith(NAME)}
        rooms = {name.split(".")[1] for name in ours}
        assert rooms <= {"experiment", "data", "errors", "relabelling"}, path


def test_errors_import_no_torch():
    """A sentence about a wrong path should not take seconds to appear."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    code += f"; import {NAME}.errors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
