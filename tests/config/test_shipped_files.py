"""The files in hparams/: complete, in step, and what each of them says it is."""

import re

import pytest
import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml
from small_runs import ROOT

from speechbrain_birq.config import flatten
from speechbrain_birq.config.keys import KEYS
from speechbrain_birq.config.tree import dump, included, read_tree

FOLDER = ROOT / "hparams"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
COMPLETE = ("birq_base", "birq_large", "birq_tiny", "ctc_base", "ctc_tiny")
SMALL = dict(num_layers=2, d_model=16, nhead=2, d_ffn=32, kernel_size=5)
KINDS = {"birq": dict(label_layer=1), "ctc": {}}
BIRQ_SECTIONS = """Data Features Encoder Chunks Labels Masks Objective Training Logs
    Objects""".split()


def script_of(name):
    return "pretrain" if "birq" in name or "best_rq" in name else "finetune"


def text_of(name):
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def lines_of_keys(name):
    """Top-level key -> its line."""
    found = re.findall(r"^([a-z]\w*):(.*)$", text_of(name), re.M)
    return dict(found)


@pytest.mark.parametrize("name", FILES)
def test_every_file_builds_its_parts(load, name):
    small = SMALL | (dict(label_layer=1) if script_of(name) == "pretrain" else {})
    loaded = load(name, script=script_of(name), **small).hparams
    assert {"frontend", "encoder", "brain_class", "checkpointer"} <= loaded.keys()


@pytest.mark.parametrize("name", COMPLETE)
def test_stock_hyperpyyaml_builds_everything(hparams, name):
    small = SMALL | KINDS[name.partition("_")[0]]
    with open(hparams / f"{name}.yaml") as file:
        loaded = load_hyperpyyaml(file, {"data_folder": "nowhere"} | small)
    assert loaded["encoder"].output_dim == 16
    assert (hparams.parent / "results" / name / "save").is_dir()


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_file_includes_nothing_and_fits_on_some_screens(name):
    text = text_of(name)
    assert "!include" not in text
    assert len(text.splitlines()) <= 170
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", COMPLETE)
def test_every_key_of_a_complete_file_has_a_comment(name):
    bare = [key for key, line in lines_of_keys(name).items() if " # " not in line]
    assert bare == []


@pytest.mark.parametrize("name", [name for name in COMPLETE if "birq" in name])
def test_a_complete_file_is_in_sections(name):
    titles = re.findall(r"^\n# (\w+)", text_of(name), re.M)
    assert titles == BIRQ_SECTIONS


@pytest.mark.parametrize("name", COMPLETE)
def test_the_head_has_the_command(name):
    head = text_of(name).partition("\n\n")[0]
    script = f"{script_of(name)}.py"
    assert f"recipes/LibriSpeech/{script}" in head
    assert f"hparams/{name}.yaml" in head


@pytest.mark.parametrize(
    "name", sorted(set(FILES) - {f"{name}.yaml" for name in COMPLETE})
)
def test_every_other_file_is_a_small_delta_to_a_complete_one(name):
    base = included(read_tree(FOLDER / name))
    assert base.removesuffix(".yaml") in COMPLETE
    assert len(text_of(name.removesuffix(".yaml")).splitlines()) <= 40


@pytest.mark.parametrize("kind", KINDS)
def test_complete_files_of_a_kind_are_in_step(kind):
    """The same keys in the same order; the same objects, but for the optimizer."""
    names = [name for name in COMPLETE if name.startswith(kind)]
    first, *others = map(text_of, names)
    for other in others:
        assert list(lines_of_keys(names[0])) == re.findall(r"^([a-z]\w*):", other, re.M)
        assert objects_of(first) == objects_of(other)


def objects_of(text):
    objects = text.partition("# Objects")[2]
    return re.sub(r"^opt_class:.*\n( +.*\n)*", "", objects, flags=re.M)


def test_what_pretraining_and_fine_tuning_share_is_the_same_to_the_letter():
    birq, ctc = (read_tree(FOLDER / f"{kind}_base.yaml") for kind in KINDS)
    names = ("frontend", "encoder", "chunking", "epoch_counter", "run_log")
    for name in (*names, *"num_layers d_model nhead d_ffn kernel_size stack".split()):
        assert dump({name: birq[name]}) == dump({name: ctc[name]})


@pytest.mark.parametrize("name", COMPLETE)
def test_every_key_of_a_complete_file_is_in_the_table(name):
    tree = read_tree(FOLDER / f"{name}.yaml")
    plain = {key for key, value in tree.items() if not isinstance(value, dict)}
    objects = {"brain_class", "lr_schedule"}
    assert plain - objects - {"__set_seed"} <= KEYS.keys()


def test_every_key_of_the_table_is_in_a_shipped_file():
    found = {key for name in FILES for key in flatten(FOLDER / name)}
    assert KEYS.keys() - found <= {"data_parallel_count", "train_logger"}


def test_best_rq_is_birq_with_weight_zero(load):
    loaded = load("best_rq_tiny.yaml").hparams
    assert loaded["enhanced_weight"](10**6) == 0
    assert loaded["anchor_weight"](0) > 0


def test_the_plus_fits_both_quantizers_to_speech(load):
    loaded, plain = load("birq_plus_tiny.yaml").hparams, load().hparams["model"]
    for kind in ("anchor_quantizer", "enhanced_quantizer"):
        assert getattr(loaded["model"], kind).kinds == ("pca", "centroids")
        assert type(getattr(plain, kind)).__name__ == "RandomProjectionQuantizer"
    assert loaded["label_fitting"].refit_steps == 1250


def test_the_plus_of_best_rq_fits_the_anchors_alone(load):
    loaded = load("best_rq_plus_tiny.yaml").hparams
    assert loaded["model"].anchor_quantizer.kinds == ("pca", "centroids")
    assert type(loaded["model"].enhanced_quantizer).__name__ == (
        "RandomProjectionQuantizer"
    )
    assert loaded["enhanced_weight"](10**6) == 0


@pytest.mark.parametrize("name", [name for name in FILES if "paper" in name])
def test_the_papers_form_has_the_papers_numbers(load, name):
    loaded = load(name, **SMALL, label_layer=1).hparams
    model = loaded["model"]
    assert (loaded["enhanced_weight"](0), loaded["anchor_weight"](0)) == (0.1, 2.4)
    assert model.selector.temperature == 0.5
    assert model.selector.noise
    assert model.selector.gradient
    assert model.heads.shared
    assert model.label_norm.kind == "layer"
    assert not model.anchor_quantizer.codebook.l2_normalize
    assert model.anchor_quantizer.codebook.codes.shape == (1, 256, 16)
    assert model.anchor_quantizer.codebook is model.enhanced_quantizer.codebook


@pytest.mark.parametrize("name", [name for name in FILES if "paper" in name])
def test_the_papers_form_has_its_warning(name):
    head = text_of(name.removesuffix(".yaml")).partition("!include")[0]
    assert "collapse" in head and "docs/training.md" in head


@pytest.mark.parametrize("name", ["birq_base", "birq_large", "birq_wide", "birq_tiny"])
def test_the_default_form_stops_the_gradient_of_the_labels(load, name):
    model = load(f"{name}.yaml", **SMALL, label_layer=1).hparams["model"]
    assert not model.selector.gradient
    assert not model.selector.noise
    assert not model.heads.shared
    assert model.label_norm.kind == "channel"
    assert model.anchor_quantizer.codebook.l2_normalize
    assert model.anchor_quantizer.codebook.codes.shape == (4, 512, 16)


def test_the_seed_of_the_yaml_draws_the_weights(load):
    def weights(seed):
        return load(seed=seed).hparams["encoder"].input.linear.weight

    first = weights(7)
    assert first.equal(weights(7))
    assert not first.equal(weights(8))


@pytest.mark.parametrize("name", FILES)
def test_the_flat_file_is_valid_yaml_without_includes(name):
    text = dump(flatten(FOLDER / name))
    assert "!include" not in text
    assert ruamel.yaml.YAML().load(text).keys() == flatten(FOLDER / name).keys()
