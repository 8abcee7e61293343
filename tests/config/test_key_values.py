"""Values: each key takes what the table says; keys of one's own keep their kind."""

import math

import pytest

from speechbrain_birq.errors import BadInput

UNFIT = [
    ("train_split", 5, "a text"),
    ("valid_split", ["dev"], "a text"),
    ("text_case", "title", "upper, lower or keep"),
    ("tokens", "words", "characters or sentencepiece"),
    ("decoding", None, "greedy or beam"),
    ("decoding", "sideways", "greedy or beam"),
    ("data_folder", ["a"], "a path"),
    ("output_folder", None, "a path"),
    ("lm_path", True, "a path"),
    ("test_splits", 5, "a list of texts"),
    ("trust", [5], "a list of texts"),
    ("num_workers", 257, "a whole number from 0 to 256"),  # each is a process
    ("num_layers", 1.0, "a whole number above 0"),
    ("num_layers", None, "a whole number above 0"),
    ("num_layers", True, "a whole number above 0"),
    ("beam_size", 0, "a whole number above 0"),
    ("grad_accumulation_factor", 0, "a whole number above 0"),
    ("seed", -1, "a whole number from 0 to 4294967295"),
    ("seed", 2**32, "a whole number from 0 to 4294967295"),
    ("seed", 10**20 - 1, "a whole number from 0 to 4294967295"),
    ("optimizer_step_limit", "many", "a whole number from 0"),
    ("lr", 0, "a number above 0"),
    ("lr", "abc", "a number above 0"),
    ("lr", math.nan, "a number above 0"),
    ("lr", math.inf, "a number above 0"),
    ("batch_seconds", -1.5, "a number above 0"),
    ("batch_seconds", math.inf, "a number above 0"),
    ("lm_alpha", -0.5, "a number from 0"),
    ("chunk_prob", 1.5, "a number from 0 to 1"),
    ("dropout", 1.0, "a number from 0, below 1"),
    ("max_grad_norm", None, "a number"),
    ("max_grad_norm", -math.inf, "a number"),
    ("tensorboard", 1, "True or False"),
]


@pytest.mark.parametrize(("key", "value", "kind"), UNFIT)
def test_a_value_that_does_not_fit_its_key_is_refused(load, key, value, kind):
    with pytest.raises(BadInput, match=f"command line: {key} takes {kind}, got"):
        load("ctc_tiny.yaml", **{key: value})


CHOICES = [
    ("anchor_projection", "lda", "random, pca or whitened_pca"),
    ("enhanced_projection", True, "random, pca or whitened_pca"),
    ("anchor_codes", "kmeans", "random or centroids"),
    ("enhanced_codes", ["random"], "random or centroids"),
]


@pytest.mark.parametrize(("key", "value", "kind"), CHOICES)
def test_a_kind_of_fitted_quantizer_is_one_of_a_few(load, key, value, kind):
    with pytest.raises(BadInput, match=f"command line: {key} takes {kind}, got"):
        load("birq_plus_tiny.yaml", **{key: value})


def test_a_label_layer_is_a_whole_number(load):
    with pytest.raises(BadInput, match=r"label_layer takes a whole number, got 1\.0"):
        load(label_layer=1.0)


@pytest.mark.parametrize("key", ["anchor_weight_value", "enhanced_weight_value"])
def test_a_weight_with_which_every_step_overflows_is_refused(load, key):
    with pytest.raises(BadInput, match=f"{key} takes a number from 0 to 1000000, got"):
        load(**{key: 1e300})


@pytest.mark.faults
@pytest.mark.parametrize("size", ["1e24", str(10**24), str(10**17)])
def test_a_size_that_no_tensor_has_is_one_sentence(load, edit, size):
    edit("birq_tiny.yaml", "d_ffn: !ref <d_ffn>", f"d_ffn: {size}")
    with pytest.raises(BadInput, match=r"birq_tiny\.yaml: ") as told:
        load()
    text = str(told.value)
    assert "frame #0" not in text and "expected one of" not in text


@pytest.mark.parametrize(
    "value", ["abc", "[1]", "null", "0", "-1", "true", "2024-01-01", ".inf", ".nan"]
)
def test_a_value_that_does_not_fit_in_the_file_itself_is_refused(load, edit, value):
    edit("birq_tiny.yaml", "\nlr: 0.01", f"\nlr: {value}")
    with pytest.raises(BadInput, match=r"birq_tiny\.yaml: lr takes a number above 0"):
        load()


def test_a_value_that_does_not_fit_in_a_delta_is_refused(load, delta):
    with pytest.raises(BadInput, match=r"delta\.yaml: stack takes a whole number"):
        load(delta("stack: 0\n"))


def test_an_unfit_value_that_is_overridden_does_no_harm(load, delta):
    assert load(delta("lr: 0\n"), lr=0.5).hparams["lr"] == 0.5


def test_a_reference_is_not_checked(load, delta):
    text = "total_steps: 7\nwarmup_steps: !ref <total_steps>\nlr: !ref <dropout>\n"
    loaded = load(delta(text)).hparams
    assert (loaded["warmup_steps"], loaded["lr"]) == (7, 0.0)


@pytest.mark.parametrize(
    ("key", "value", "taken"),
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
def test_a_value_is_taken_as_its_key_needs_it(load, key, value, taken):
    assert load("ctc_tiny.yaml", **{key: value}).hparams[key] == taken


def test_repairs_reach_a_file_s_own_values(load, edit):
    edit("ctc_tiny.yaml", "test_splits: [test]", "test_splits: test")
    edit("ctc_tiny.yaml", "pretrained: null", "pretrained: 5")
    loaded = load("ctc_tiny.yaml").hparams
    assert (loaded["test_splits"], loaded["pretrained"]) == (["test"], "5")


@pytest.mark.parametrize(
    ("default", "value", "kind"),
    [("a", 5, "a text"), (1, [1], "a number"), (True, 1, "True or False")],
)
def test_a_key_of_ones_own_keeps_its_kind(load, edit, default, value, kind):
    edit("birq_tiny.yaml", "\nseed:", f"\nmy_own: {default}\nseed:")
    with pytest.raises(BadInput, match=f"my_own takes {kind}"):
        load(my_own=value)


@pytest.mark.parametrize("layer", [0, 5, -1])
def test_a_label_layer_out_of_range_is_refused_by_name(load, layer):
    with pytest.raises(BadInput, match=f"label_layer {layer} is out of range"):
        load(num_layers=4, label_layer=layer)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("temperature", 0, "temperature"),
        ("mask_prob", 1.5, "mask_prob takes a number above 0, at most 1"),
        ("mask_prob", 0, "mask_prob takes a number above 0, at most 1"),
        ("label_norm", "batch", "label_norm"),
        ("nhead", 5, "nhead 5"),
        ("kernel_size", 4, "kernel_size"),
        ("encoder_kind", "squeezeformer", "squeezeformer"),
    ],
)
def test_a_value_that_a_part_refuses_is_named_in_a_sentence(load, key, value, words):
    with pytest.raises(BadInput, match=words):
        load(**{key: value})


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("nhead: 0", "nhead of the encoder must be a whole number above 0, got 0"),
        ("nhead: two", "nhead of the encoder must be"),
        ("d_model: 0", "d_model of the encoder must be"),
        ("num_layers: 1.5", "num_layers of the encoder must be"),
        ("d_ffn: 1.5", "d_ffn of the encoder must be"),
        ("input_dim: 0", "input_dim of the encoder must be"),
        ("kernel_size: 3.0", "kernel_size of the encoder must be"),
        ("dropout: high", "dropout of the encoder must be a number from 0, below 1"),
        ("activation_checkpointing: often", "activation_checkpointing of the encoder"),
        ("d_ffn: !ref <d_model> / 0", "division by zero"),
    ],
)
def test_an_argument_in_the_encoder_s_line_is_checked(load, delta, argument, words):
    with pytest.raises(BadInput, match=words):
        load(delta(f"encoder:\n    {argument}\n"))


@pytest.mark.parametrize("key", ["masking", "lr_schedule", "run_log", "encoder"])
@pytest.mark.parametrize("value", ["null", "5", "conformer"])
def test_a_plain_value_is_no_part(load, delta, key, value):
    with pytest.raises(BadInput, match=f"{key} takes a part, got "):
        load(delta(f"{key}: {value}\n"))


def test_attention_that_an_encoder_does_not_have_is_refused_by_name(load, delta):
    name = delta("encoder:\n    attention_type: regularMHA\n")
    with pytest.raises(BadInput, match="'regularMHA' does not go with a e_branch"):
        load(name, encoder_kind="e_branchformer")


def test_a_window_needs_rotary_attention(load, delta):
    name = delta("encoder:\n    attention_type: RelPosMHAXL\n")
    with pytest.raises(BadInput, match=r"attention_window needs .* not RelPosMHAXL"):
        load(name, attention_window=6)


def test_an_infinite_rate_of_the_command_line_is_refused(load):
    from speechbrain_birq.config.checks import Given

    for text in (".inf", ".nan", "1e999"):
        with pytest.raises(BadInput, match="lr takes a number above 0"):
            load(lr=Given(text))
