"""Configuration: shipped files load, misspelt keys and wrong types do not."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from speechbrain.utils.run_opts import RunOptions

import speechbrain_birq
from speechbrain_birq.config.keys import KIND
from speechbrain_birq.config.loader import (
    READ_BY_CODE,
    flatten,
    load_configuration,
    parse_arguments,
)
from speechbrain_birq.errors import BadInput

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (ROOT / "hparams").glob("*.yaml"))
FOLDERS = {"data_folder": "nowhere"}


@pytest.fixture
def hparams(tmp_path):
    """A copy of hparams/ whose runs write to the test's own folder."""
    return shutil.copytree(ROOT / "hparams", tmp_path / "hparams")


def load(path, **overrides):
    folders = FOLDERS | {"output_folder": str(path.parent / "out")}
    return load_configuration(path, folders | overrides)


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def delta(folder, text):
    path = folder / "delta.yaml"
    path.write_text(f"!include:birq_tiny.yaml\n{text}", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_file_loads(hparams, name):
    loaded = load(hparams / name).hparams
    assert loaded["data_folder"] == "nowhere"
    assert {"frontend", "encoder", "brain_class", "checkpointer"} <= loaded.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_key_that_nothing_reads_is_refused_in_every_shipped_file(hparams, name):
    base, _ = flatten(hparams / name)
    edit(base, "\nseed:", "\nuseless_key: 1\nseed:")
    with pytest.raises(BadInput, match="nothing reads the key 'useless_key'"):
        load(hparams / name)


@pytest.mark.parametrize("part", sorted((ROOT / "hparams/parts").glob("encoder_*")))
def test_every_encoder_part_can_be_included(hparams, part):
    path = hparams / "birq_tiny.yaml"
    edit(path, "parts/encoder_conformer.yaml", f"parts/{part.name}")
    assert load(path, d_model=16).hparams["encoder"].output_dim == 16


def test_the_resolved_text_loads_by_itself(hparams):
    resolved = load(hparams / "birq_tiny.yaml", num_layers=3).resolved
    (hparams / "resolved.yaml").write_text(resolved, encoding="utf-8")
    assert "!ref" not in resolved
    assert "!include" not in resolved
    assert "!PLACEHOLDER" not in resolved
    assert "num_layers: 3" in resolved


def test_a_key_of_the_command_line_reaches_the_part_that_reads_it(hparams):
    loaded = load(hparams / "birq_tiny.yaml", num_layers=3, temperature=0.7).hparams
    assert loaded["encoder"].num_layers == 3
    assert loaded["model"].selector.temperature == 0.7


def test_a_delta_changes_its_keys_only(hparams):
    base = load(hparams / "birq_tiny.yaml").hparams
    loaded = load(delta(hparams, "num_layers: 3\nlr: 0.5\n")).hparams
    assert (loaded["encoder"].num_layers, loaded["lr"]) == (3, 0.5)
    assert loaded["d_model"] == base["d_model"]


def test_a_delta_with_another_class_replaces_the_part_with_its_arguments(hparams):
    text = "lr_schedule: !new:torch.nn.Linear\n    in_features: !ref <stack>\n"
    path = delta(hparams, text + "    out_features: 2\n")
    layer = load(path, stack=3).hparams["lr_schedule"]
    assert isinstance(layer, torch.nn.Linear)
    assert (layer.in_features, layer.out_features) == (3, 2)


def test_a_delta_with_another_include_replaces_the_part(hparams):
    text = "encoder: !include:parts/encoder_branchformer.yaml\n" + "".join(
        f"    {key}: !ref <{key}>\n" for key in ("num_layers", "d_model", "nhead")
    )
    text += "    input_dim: !ref <n_mels> * <stack>\n    kernel_size: 31\n"
    text += "    dropout: 0.0\n    d_ffn: 32\n    attention_window: null\n"
    text += "    activation_checkpointing: False\n"
    assert load(delta(hparams, text)).hparams["encoder"].kind == "branchformer"


def test_a_delta_of_a_delta_has_the_last_word(hparams):
    delta(hparams, "num_layers: 3\nlr: 0.5\n")
    second = hparams / "second.yaml"
    second.write_text("!include:delta.yaml\nlr: 0.25\n")
    loaded = load(second).hparams
    assert (loaded["encoder"].num_layers, loaded["lr"]) == (3, 0.25)


def test_the_command_line_has_the_last_word_over_a_delta(hparams):
    assert load(delta(hparams, "lr: 0.5\n"), lr=0.125).hparams["lr"] == 0.125


def test_best_rq_is_birq_with_weight_zero(hparams):
    loaded = load(hparams / "best_rq_tiny.yaml").hparams
    assert loaded["enhanced_weight"](10**6) == 0
    assert loaded["anchor_weight"](0) > 0


def test_the_plus_fits_both_quantizers_to_speech(hparams):
    loaded = load(hparams / "birq_plus_tiny.yaml").hparams
    model, plain = loaded["model"], load(hparams / "birq_tiny.yaml").hparams["model"]
    for kind in ("anchor_quantizer", "enhanced_quantizer"):
        assert getattr(model, kind).kinds == ("pca", "centroids")
        assert not getattr(plain, kind).fittable
    assert loaded["label_fitting"].refit_steps == 5000


def test_the_papers_form_has_the_papers_numbers(hparams):
    loaded = load(hparams / "birq_paper_tiny.yaml").hparams
    model = loaded["model"]
    assert (loaded["enhanced_weight"](0), loaded["anchor_weight"](0)) == (0.1, 2.4)
    assert model.selector.temperature == 0.5
    assert model.selector.noise
    assert model.selector.gradient
    assert model.heads.shared
    assert model.label_norm.kind == "layer"
    assert not model.anchor_quantizer.codebook.l2_normalize
    assert model.anchor_quantizer.codebook is model.enhanced_quantizer.codebook


MISSPELT = [
    ("birq_tiny.yaml", "\nlog_interval:", "\nlog_intervall:", "log_interval"),
    ("birq_tiny.yaml", "\nkeep_checkpoints:", "\nkeep_checkpoint:", "keep_checkpoints"),
    ("birq_tiny.yaml", "    num_layers: !ref", "    num_layer: !ref", "num_layers"),
    (
        "birq_tiny.yaml",
        "    shared_head: !ref",
        "    shared_heads: !ref",
        "shared_head",
    ),
    ("birq_tiny.yaml", "    mask_prob: !ref", "    mask_pob: !ref", "mask_prob"),
    ("birq_tiny.yaml", "    label_layer: !ref", "    lable_layer: !ref", "label_layer"),
    ("birq_tiny.yaml", "    weight_decay: !", "    weight_decays: !", "weight_decay"),
    ("ctc_tiny.yaml", "    dropout: !ref <head", "    dropuot: !ref <head", "dropout"),
    ("ctc_tiny.yaml", "\nlr_encoder:", "\nlr_encode:", "lr_encoder"),
    ("parts/labels.yaml", "    codebook: !ref", "    codebok: !ref", "codebook"),
    (
        "parts/encoder_conformer.yaml",
        "attention_type:",
        "attention_typ:",
        "attention_type",
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "nearest"), MISSPELT)
def test_a_misspelt_key_is_refused_with_the_nearest_one(
    hparams, file, old, new, nearest
):
    edit(hparams / file, old, new)
    experiment = "ctc_tiny.yaml" if file == "ctc_tiny.yaml" else "birq_tiny.yaml"
    key = re.match(r"\s*(\w+)", new)[1]
    with pytest.raises(BadInput, match=f"key '{key}': did you mean '{nearest}'"):
        load(hparams / experiment)


def test_a_misspelt_key_of_the_command_line_is_refused_with_the_nearest_one(hparams):
    with pytest.raises(BadInput, match=r"command line.*'temprature'.*'temperature'"):
        load(hparams / "birq_tiny.yaml", temprature=1.0)


def test_a_misspelt_key_of_a_delta_is_refused_with_the_nearest_one(hparams):
    path = delta(hparams, "num_laeyrs: 3\n")
    with pytest.raises(BadInput, match=r"delta\.yaml.*'num_laeyrs'.*'num_layers'"):
        load(path)


def test_a_class_that_does_not_exist_is_refused_by_name(hparams):
    path = hparams / "birq_tiny.yaml"
    edit(path, "models.SpanMasking", "models.SpamMasking")
    with pytest.raises(BadInput, match="SpamMasking"):
        load(path)


def test_a_reference_to_nothing_is_refused_by_name(hparams):
    path = hparams / "birq_tiny.yaml"
    edit(path, "dim: !ref <n_mels>", "dim: !ref <n_meels>")
    with pytest.raises(BadInput, match="n_meels"):
        load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", "abc"), ("num_layers", "four"), ("l2_normalize", 3), ("num_codes", True)],
)
def test_a_value_of_a_wrong_type_is_refused(hparams, key, value):
    with pytest.raises(BadInput, match=key):
        load(hparams / "birq_tiny.yaml", **{key: value})


def test_a_wrong_type_in_a_delta_is_refused(hparams):
    path = delta(hparams, "lr: abc\n")
    with pytest.raises(
        BadInput, match=r"delta\.yaml: lr takes a number above 0, got 'abc'"
    ):
        load(path)


@pytest.mark.parametrize("layer", [0, 5, -1])
def test_a_label_layer_out_of_range_is_refused_by_name(hparams, layer):
    with pytest.raises(BadInput, match=f"label_layer {layer} is out of range"):
        load(hparams / "birq_tiny.yaml", num_layers=4, label_layer=layer)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("temperature", 0, "temperature"),
        ("mask_prob", 1.5, "mask_prob"),
        ("label_norm", "batch", "label_norm"),
        ("nhead", 5, "nhead 5"),
        ("kernel_size", 4, "kernel_size"),
    ],
)
def test_a_value_that_a_part_refuses_is_told_in_a_sentence(hparams, key, value, words):
    with pytest.raises(BadInput, match=words):
        load(hparams / "birq_tiny.yaml", **{key: value})


def test_a_branchformer_with_rotary_attention_is_refused_by_name(hparams):
    part = hparams / "parts/encoder_branchformer.yaml"
    edit(part, "attention_type: RelPosMHAXL", "attention_type: RoPEMHA")
    path = hparams / "birq_tiny.yaml"
    edit(path, "encoder_conformer", "encoder_branchformer")
    with pytest.raises(BadInput, match="'RoPEMHA' does not go with a branchformer"):
        load(path)


def test_a_branchformer_with_a_window_is_refused_by_name(hparams):
    path = hparams / "birq_tiny.yaml"
    edit(path, "encoder_conformer", "encoder_branchformer")
    with pytest.raises(BadInput, match=r"attention_window needs .* not RelPosMHAXL"):
        load(path, attention_window=6)


@pytest.mark.parametrize("name", ["missing.yaml", "parts"])
def test_a_file_that_is_not_there_is_refused(hparams, name):
    with pytest.raises(BadInput, match="no YAML file"):
        load(hparams / name)


def test_an_include_that_is_not_there_is_refused(hparams):
    edit(hparams / "birq_tiny.yaml", "parts/features.yaml", "parts/feature.yaml")
    with pytest.raises(BadInput, match=r"no YAML file .*feature\.yaml"):
        load(hparams / "birq_tiny.yaml")


@pytest.mark.parametrize("text", ["", "just words\n", "- a\n- b\n"])
def test_a_file_without_keys_is_refused(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BadInput, match="holds no keys"):
        load_configuration(tmp_path / "x.yaml")


@pytest.mark.parametrize("text", ["a: [1\n", "a: 1\na: 2\n", "a: b: c\n"])
def test_broken_yaml_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BadInput, match="not valid YAML") as caught:
        load_configuration(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["birq_tiny.yaml", "parts/encoder_conformer.yaml"])
def test_a_key_given_twice_is_refused_by_name(hparams, file):
    with (hparams / file).open("a", encoding="utf-8") as yaml:
        yaml.write("dropout: 0.5\ndropout: 0.5\n")
    with pytest.raises(BadInput, match=r"'dropout' is given twice \(again in line \d+"):
        load(hparams / "birq_tiny.yaml")


def test_a_key_given_twice_inside_a_part_is_refused_by_name(hparams):
    path = hparams / "birq_tiny.yaml"
    edit(path, "    d_model: !ref", "    nhead: 1\n    d_model: !ref")
    with pytest.raises(BadInput, match="'nhead' is given twice"):
        load(path)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--lr", "1", "--lr", "2"], "command line.*'lr' is given twice"),
        (["--lr", "[1"], "command line is not valid YAML"),
        (["--test_splits=a: b"], "command line is not valid YAML"),
        (["--grad_accumulation_factor", "0"], "takes a whole number above 0, got 0"),
        (["--nonfinite_patience=-1"], "takes a whole number from 0, got -1"),
        (["--optimizer_step_limit=-1"], "takes a whole number from 0, got '-1'"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(argv, words):
    with pytest.raises(BadInput, match=words):
        parse_arguments(["x.yaml", *argv])


UNFIT = [
    ("train_split", 5, "a text"),
    ("valid_split", ["dev"], "a text"),
    ("decoding", None, "a text"),
    ("data_folder", ["a"], "a path"),
    ("output_folder", None, "a path"),
    ("lm_path", True, "a path"),
    ("test_splits", 5, "a list of texts"),
    ("trust", [5], "a list of texts"),
    ("num_layers", 1.0, "a whole number above 0"),
    ("num_layers", None, "a whole number above 0"),
    ("beam_size", 0, "a whole number above 0"),
    ("grad_accumulation_factor", 0, "a whole number above 0"),
    ("seed", -1, "a whole number from 0"),
    ("optimizer_step_limit", "many", "a whole number from 0"),
    ("lr", 0, "a number above 0"),
    ("lr", float("nan"), "a number above 0"),
    ("batch_seconds", -1.5, "a number above 0"),
    ("lm_alpha", -0.5, "a number from 0"),
    ("max_grad_norm", None, "a number"),
]


@pytest.mark.parametrize(("key", "value", "kind"), UNFIT)
def test_a_value_that_does_not_fit_its_key_is_refused(hparams, key, value, kind):
    with pytest.raises(BadInput, match=f"command line: {key} takes {kind}, got"):
        load(hparams / "ctc_tiny.yaml", **{key: value})


def test_a_label_layer_is_a_whole_number(hparams):
    with pytest.raises(BadInput, match=r"label_layer takes a whole number, got 1\.0"):
        load(hparams / "birq_tiny.yaml", label_layer=1.0)


@pytest.mark.parametrize(
    "value", ["abc", "[1]", "null", "0", "-1", "true", "2024-01-01"]
)
def test_a_value_that_does_not_fit_in_the_file_itself_is_refused(hparams, value):
    edit(hparams / "birq_tiny.yaml", "\nlr: 0.001", f"\nlr: {value}")
    with pytest.raises(BadInput, match=r"birq_tiny\.yaml: lr takes a number above 0"):
        load(hparams / "birq_tiny.yaml")


def test_a_value_that_does_not_fit_in_a_delta_is_refused(hparams):
    with pytest.raises(
        BadInput, match=r"delta\.yaml: stack takes a whole number above"
    ):
        load(delta(hparams, "stack: 0\n"))


def test_an_unfit_value_that_is_overridden_does_no_harm(hparams):
    assert load(delta(hparams, "lr: 0\n"), lr=0.5).hparams["lr"] == 0.5


@pytest.mark.parametrize(
    ("default", "value", "kind"),
    [("a", 5, "a text"), (1, [1], "a number"), (True, 1, "True or False")],
)
def test_a_key_of_ones_own_keeps_its_type(hparams, default, value, kind):
    path = hparams / "birq_tiny.yaml"
    edit(path, "\nseed:", f"\nmy_own: {default}\nseed:")
    with pytest.raises(BadInput, match=f"my_own takes {kind}"):
        load(path, my_own=value)


@pytest.mark.parametrize(
    ("key", "value", "repaired"),
    [
        ("test_splits", "test-clean", ["test-clean"]),
        ("trust", "mypkg", ["mypkg"]),
        ("data_folder", 5, "5"),
        ("output_folder", 5, "5"),
        ("pretrained", 5, "5"),
        ("lm_path", 5, "5"),
        ("lm_path", None, None),
        ("optimizer_step_limit", None, None),
        ("optimizer_step_limit", 7, 7),
        ("max_seconds", 12.5, 12.5),
        ("max_grad_norm", -1, -1),
        ("num_workers", 0, 0),
    ],
)
def test_a_value_is_taken_as_its_key_needs_it(hparams, key, value, repaired):
    path = hparams / "ctc_tiny.yaml"
    folders = FOLDERS | {"output_folder": str(hparams / "out")} | {key: value}
    if key == "output_folder":
        edit(
            path, "checkpoints_dir: !ref <output_folder>", f"checkpoints_dir: {hparams}"
        )
        edit(path, "folder: !ref <output_folder>", f"folder: {hparams}")
    assert load_configuration(path, folders).hparams[key] == repaired


def test_repairs_reach_a_file_s_own_values(hparams):
    path = hparams / "ctc_tiny.yaml"
    edit(path, "test_splits: [test]", "test_splits: test")
    edit(path, "pretrained: null", "pretrained: 5")
    loaded = load(path).hparams
    assert (loaded["test_splits"], loaded["pretrained"]) == (["test"], "5")


def test_a_reference_is_not_checked(hparams):
    path = delta(
        hparams,
        "total_steps: 7\nwarmup_steps: !ref <total_steps>\nlr: !ref <dropout>\n",
    )
    loaded = load(path).hparams
    assert (loaded["warmup_steps"], loaded["lr"]) == (7, 0.0)


@pytest.mark.parametrize("key", sorted(KIND.keys() - vars(RunOptions()).keys()))
def test_keys_whose_kind_is_known_are_in_a_shipped_file(key):
    bases = [ROOT / "hparams" / name for name in ("birq_tiny.yaml", "ctc_tiny.yaml")]
    assert any(f"\n{key}:" in path.read_text(encoding="utf-8") for path in bases)


def test_a_forgotten_data_folder_is_refused_by_name(hparams):
    with pytest.raises(BadInput, match="data_folder"):
        load_configuration(hparams / "birq_tiny.yaml", {})


@pytest.mark.parametrize("form", [["--optimizer_step_limit", "1000"], None])
def test_the_step_limit_of_the_command_line_is_a_number(form):
    argv = ["x.yaml", *(form or ["--optimizer_step_limit=1000"])]
    _, options, _ = parse_arguments(argv)
    assert options.optimizer_step_limit == 1000
    assert isinstance(options.optimizer_step_limit, int)


def test_a_step_limit_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="optimizer_step_limit takes a whole number"):
        parse_arguments(["x.yaml", "--optimizer_step_limit", "many"])


def test_options_that_nobody_gave_are_not_overridden():
    """SpeechBrain writes its defaults over the YAML's precision and accumulation."""
    _, options, _ = parse_arguments(["x.yaml", "--max_grad_norm", "3"])
    assert set(options.overridden_args) == {"max_grad_norm"}


def test_options_and_keys_of_the_command_line_are_told_apart():
    argv = ["x.yaml", "--precision", "bf16", "--num_layers", "3", "--trust=[a]"]
    path, options, overrides = parse_arguments(argv)
    assert path == "x.yaml"
    assert options.precision == "bf16"
    assert overrides == {"num_layers": 3, "trust": ["a"]}


@pytest.mark.parametrize("key", sorted(READ_BY_CODE))
def test_keys_that_need_no_reference_are_read_by_the_code(key):
    folder = Path(speechbrain_birq.__file__).parent
    sources = [
        path.read_text(encoding="utf-8")
        for path in folder.rglob("*.py")
        if path.parent.name != "config"
    ]
    patterns = (rf"[\"']{key}[\"']", rf"hparams\.{key}\b")
    assert any(re.search(p, text) for p in patterns for text in sources)


def test_the_seed_of_the_yaml_draws_the_weights(tmp_path):
    def weights(seed):
        path = tmp_path / f"{seed}.yaml"
        path.write_text(
            f"!include:{ROOT / 'hparams' / 'birq_tiny.yaml'}\nseed: {seed}\n"
        )
        overrides = {"data_folder": "x", "output_folder": str(tmp_path / "run")}
        encoder = load_configuration(path, overrides).hparams["encoder"]
        return encoder.input.linear.weight

    torch.manual_seed(99)
    first = weights(7)
    torch.manual_seed(98)
    assert torch.equal(first, weights(7))
    assert not torch.equal(first, weights(8))
