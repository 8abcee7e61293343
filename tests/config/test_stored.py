"""References of stored files: resolved without running or reading anything."""

import pytest

from speechbrain_birq.config.stored import resolve_stored


def test_references_are_resolved():
    tree = resolve_stored("a: 2\nb: !ref <a> * 3\nc: !ref <d>/x\nd: !ref <a>\n")
    assert (tree["b"], tree["c"]) == (6, "2/x")


def doubling(times):
    lines = ["a0: x123456789"]
    lines += [f"a{n + 1}: !ref <a{n}><a{n}>" for n in range(times)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "a: !applyref:os.mkdir [owned]",
        "a: {b: [!applyref:os.mkdir [owned]]}",
        "a: !include:other.yaml",
        "a: !ref 9 ** 9 ** 9",
        "a: !ref <b>\nb: !ref <a>",
        doubling(40),
    ],
)
def test_what_would_run_or_never_end_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        resolve_stored(text)
    assert not (tmp_path / "owned").exists()


def test_tags_that_are_built_later_stay():
    tree = resolve_stored("a: !apply:os.mkdir [owned]\nb: !new:os.Nothing {c: 1}")
    assert tree["a"].tag.value == "!apply:os.mkdir"
    assert tree["b"].tag.value == "!new:os.Nothing"


def test_doubling_within_bounds_is_resolved():
    assert len(str(resolve_stored(doubling(3))["a3"])) == 80
