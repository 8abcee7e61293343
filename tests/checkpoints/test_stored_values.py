"""Values of a stored file: as HyperPyYAML has them, or refused; nothing else."""

import io
import math
from pathlib import Path

import pytest
import ruamel.yaml
from hostile_forms import LINES, VALUES
from hyperpyyaml import load_hyperpyyaml, resolve_references
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speechbrain_birq.checkpoints.plain_files import CORRUPT
from speechbrain_birq.checkpoints.stored_parts import Parts
from speechbrain_birq.checkpoints.stored_values import Part, StoredValues
from speechbrain_birq.checkpoints.stored_yaml import compose
from speechbrain_birq.config.loader import configure
from speechbrain_birq.config.tree import dump

HPARAMS = sorted((Path(__file__).parents[2] / "hparams").glob("*.yaml"))


def value(text, key="a"):
    return StoredValues(text).value(key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 2\nb: !ref <a> * 3", 6),
        ("a: 2\nb: !ref <a> * 3 + 1", 7),
        ("a: 2\nb: !ref (<a> + 1) // 2 - 7 % 4", -2),
        ("a: 3\nb: !ref <a> / 2", 1.5),
        ("b: !ref <c>/x\nc: !ref <a>\na: 2", "2/x"),
        ("a: {c: {d: 5}}\nb: !ref <a[c][d]>", 5),
        ("a: [1, {c: x}]\nb: !ref <a>", [1, {"c": "x"}]),
        ("a: null\nb: !ref <a>", None),
        ("a: train\nb: !ref <a>-<a>", "train-train"),
    ],
)
def test_references_are_those_of_hyperpyyaml(text, expected):
    assert value(text, "b") == expected == load_hyperpyyaml(text)["b"]


def test_what_is_shared_stays_shared():
    stored = StoredValues("a: !new:x.Y\nb: &z !new:x.Z\nc: [!ref <a>, *z, !ref <a>]")
    first, second, third = stored.value("c")
    assert first is third is stored.value("a")
    assert second is stored.value("b")


def doubling(times):
    lines = ["a0: x123456789"]
    lines += [f"a{n + 1}: !ref <a{n}><a{n}>" for n in range(times)]
    return "\n".join(lines)


def test_references_that_double_a_text_end():
    assert len(value(doubling(3), "a3")) == 80
    with pytest.raises(ValueError, match="more than 10000 characters"):
        value(doubling(40), "a40")


def test_a_long_chain_of_references_is_refused():
    text = "".join(f"a{n}: [!ref <a{n + 1}>]\n" for n in range(5000))
    with pytest.raises(ValueError, match="nested too deeply"):
        value(text + "a5000: 1", "a0")


BOUNDS = {
    LINES["alias bomb"]: "more than 20000 values",
    f"a: {VALUES['many values']}": "more than 20000 values",
    f"a: {VALUES['deep blocks']}": "nested too deeply",
    f"a: {VALUES['long text']}": "more than 10000 characters",
    "a: &a [*a]": "names nothing above it",
    "a: 1\n---\nb: 2": "more than one document",
    "a: 1\na: 2": "given twice",
    "[a]": "no mapping",
    "": "is empty",
}


@pytest.mark.parametrize(("text", "reason"), BOUNDS.items(), ids=BOUNDS.values())
def test_a_file_beyond_a_bound_is_refused_before_it_is_read(text, reason):
    with pytest.raises(ValueError, match=reason):
        compose(text)


def test_keys_that_are_no_scalars_are_left_out():
    text = "a: 1\nb: [2]\nc: !apply:os.getcwd []\nd: .nan\ne: x\nf: null\ng: !new:x.Y"
    assert StoredValues(text).scalars() == {"a": 1, "e": "x", "f": None}


def same(first, second):
    """Equal; ruamel.yaml loses a float's last digit when it writes it."""
    if isinstance(first, float):
        return isinstance(second, float) and math.isclose(first, second, rel_tol=1e-12)
    if isinstance(first, list | tuple) and type(first) is type(second):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            same(value, second[key]) for key, value in first.items()
        )
    return type(first) is type(second) and first == second


# HyperPyYAML may run what has a tag, and PyYAML what is in brackets.
HARMLESS = st.text(st.characters(codec="utf-8", exclude_characters="!("), max_size=12)
WORDS = st.sampled_from(
    "null ~ true False yes on NO 1e5 1e-5 .5 5. +3 -0 017 0o7 0x1f 1_0 1:30 .inf -.NaN "
    "2001-01-01 = << <a> * & - ? : % @ ` 12345678901234567890123456789".split()
)
SCALARS = st.one_of(HARMLESS, WORDS, st.integers().map(str), st.floats().map(str))


@given(SCALARS, st.sampled_from(["{}", "'{}'", '"{}"', "!ref {}"]))
@settings(max_examples=400, deadline=None)
def test_a_scalar_is_what_hyperpyyaml_makes_of_it_or_refused(scalar, form):
    text = f"a: {form.format(scalar)}\n"
    try:
        found = value(text)
    except CORRUPT:
        return
    assert found is None or isinstance(found, bool | int | float | str | list | dict)
    if isinstance(found, str):
        assume("\n" not in found and "<" not in found)
    assert same(found, load_hyperpyyaml(text)["a"])


@given(st.lists(st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False))))
def test_a_tuple_of_numbers_is_a_tuple_or_refused(numbers):
    try:
        found = value(f"a: {tuple(numbers)}")
    except ValueError:  # 1e-07, inf
        assert not all(str(number).replace("-", "").isdigit() for number in numbers)
        return
    assert found == tuple(numbers)


TAGS = [
    "",
    "!new:os.system",
    "!!python/name:os.system",
    "!apply:os.getpid",
    "!ref",
    "!",
]


@given(st.text(max_size=30), st.sampled_from(TAGS))
@settings(max_examples=400, deadline=None)
def test_any_text_becomes_plain_data_or_is_refused(text, tag):
    try:
        found = value(f"a: {tag} {text}\n")
    except CORRUPT:
        return
    assert plain(found)


def plain(found):
    if isinstance(found, list | tuple):
        return all(map(plain, found))
    if isinstance(found, dict):
        return all(map(plain, found.values())) and all(map(plain, found))
    if isinstance(found, Part):
        return plain(found.positional) and plain(found.arguments)
    return found is None or type(found) in (bool, int, float, str)


TEXTS = st.from_regex(r"\A[\w./+@:,= -]{0,20}\Z")
ARGUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e18, max_value=1e18)
    | TEXTS
    | st.tuples(st.integers(0, 99), st.integers(0, 99)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"\A[a-z_]{1,9}\Z"), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(ARGUMENTS)
@settings(max_examples=200, deadline=None)
def test_what_is_written_anew_is_what_was_read(argument):
    part = Part("new", "types.SimpleNamespace", (), {"argument": argument})
    tree = Parts("x.yaml", {"encoder": part}, ["types"]).tree()
    text = io.StringIO()
    ruamel.yaml.YAML().dump(tree, text)
    assert same(argument, load_hyperpyyaml(text.getvalue())["encoder"].argument)


@pytest.mark.parametrize("path", HPARAMS, ids=lambda path: path.stem)
def test_the_file_of_a_run_is_read(path):
    """Every shipped experiment: its plain keys are right, its parts acceptable."""
    text = dump(configure(path, {"data_folder": "x"}))
    stored = StoredValues(text)
    resolved = ruamel.yaml.YAML().load(resolve_references(text))
    scalars = {
        key: value
        for key, value in resolved.items()
        if value is None or isinstance(value, bool | int | float | str)
    }
    assert stored.scalars() == scalars
    roles = ("frontend", "encoder", "model")
    values = {role: stored.value(role) for role in roles if role in stored.nodes}
    if values["model"].kind == "name":  # fine-tuning makes its model later
        del values["model"]
    elif "model" in values:  # label terms teach: whoever loads a model leaves them out
        values["model"].arguments.pop("label_terms")
    Parts(path, values)


def test_numbers_are_finite():
    with pytest.raises(ValueError, match="not finite"):
        value("a: 1e999")
    assert math.isfinite(value("a: 1e99"))
