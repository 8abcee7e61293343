"""What makes a resumed run another one: keys, parts, and nothing that may change."""

import re

import pytest
from small_runs import ROOT

from speechbrain_birq.checkpoints.same_run import check_same_run
from speechbrain_birq.config.deltas import flatten
from speechbrain_birq.config.keys import MAY_CHANGE
from speechbrain_birq.config.loader import load_configuration
from speechbrain_birq.config.tree import dump
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

MODELS = "!new:speechbrain_birq.models"
BRAINS = "speechbrain_birq.brains"
TERM = "label_terms: [{}.UsageEntropy {{weight: {}, num_codebooks: 4, num_codes: 9}}]"


@pytest.fixture
def before(tmp_path):
    """before(lines): a run folder with these settings and a checkpoint."""

    def make(lines):
        (tmp_path / "save" / "CKPT+1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "hyperparams.yaml").write_text(lines)
        return tmp_path

    return make


@pytest.fixture
def shipped(tmp_path):
    """shipped(delta): the text of birq_tiny.yaml with changes."""

    def make(delta=""):
        path = tmp_path / "mine.yaml"
        delta = delta or "seed: 1234"  # as shipped
        path.write_text(f"!include:{ROOT}/hparams/birq_tiny.yaml\n{delta}\n")
        return dump(flatten(path))

    return make


def named(folder, settings):
    with pytest.raises(BadInput) as caught:
        check_same_run(folder, settings)
    text = str(caught.value)
    assert "\n" not in text and str(folder) in text and "--output_folder" in text
    return text


# Lines before, lines now, what the message says of them.
CHANGED = {
    "weight of a term": (
        TERM.format(MODELS, 1.0),
        TERM.format(MODELS, 50.0),
        "label_terms[0].weight: 1.0, now it is 50.0",
    ),
    "a further term": (
        "label_terms: []",
        TERM.format(MODELS, 1.0),
        "label_terms: [], now it is [speechbrain_birq.models.UsageEntropy]",
    ),
    "projection in its line": (
        f"enhanced_quantizer: {MODELS}.FittedQuantizer {{projection: pca}}",
        f"enhanced_quantizer: {MODELS}.FittedQuantizer {{projection: whitened_pca}}",
        "enhanced_quantizer.projection: pca, now it is whitened_pca",
    ),
    "momentum, not given before": (
        "",
        f"opt_class: !name:{BRAINS}.Muon {{momentum: 0.5}}",
        "opt_class.momentum: 0.95, now it is 0.5",
    ),
    "an item of a list": (
        "opt_class: !name:torch.optim.AdamW {betas: [0.9, 0.95]}",
        "opt_class: !name:torch.optim.AdamW {betas: [0.9, 0.99]}",
        "opt_class.betas[1]: 0.95, now it is 0.99",
    ),
    "optimizer": (
        "opt_class: !name:torch.optim.AdamW",
        "opt_class: !name:torch.optim.SGD",
        "opt_class: torch.optim.AdamW, now it is torch.optim.SGD",
    ),
    "schedule": (
        "",
        "lr_schedule: !new:speechbrain.nnet.schedulers.NoamScheduler "
        "{lr_initial: 1.0, n_warmup_steps: 2}",
        "now it is speechbrain.nnet.schedulers.NoamScheduler",
    ),
    "ramp": (
        "",
        f"enhanced_weight: !new:{BRAINS}.Ramp {{start: 5.0}}",
        "enhanced_weight.start",
    ),
    "masks": (
        "",
        f"masking: {MODELS}.SpanMasking {{mask_length_ms: 40}}",
        "masking.mask_length_ms: 200, now it is 40",
    ),
    "selector": (
        "",
        f"selector: {MODELS}.GumbelSoftmaxSelector {{noise: True}}",
        "selector.noise: False, now it is True",
    ),
    "a key, not what follows from it": ("seed: 1", "seed: 2", "seed: 1, now it is 2"),
    "a key that stands last": ("warmup_steps: 1", "warmup_steps: 2", "warmup_steps"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_changed_part_is_named_with_both_values(before, shipped, kind):
    old, new, words = CHANGED[kind]
    folder = before(shipped(old))
    assert words in named(folder, shipped(new))
    check_same_run(folder, shipped(old))


MAY = {
    "audio": "batch_seconds: 7",
    "steps": "total_steps: 5",
    "epochs": "number_of_epochs: 9",
    "logs": "tensorboard: False",
    "folder": "output_folder: elsewhere",
    "in its line": f"lr_schedule: !new:{BRAINS}.WarmupDecay {{total_steps: 5}}",
    "limit in its line": "epoch_counter: !new:speechbrain.utils.epoch_loop.EpochCounter"
    " {limit: 9}",
    "another log": "run_log: !new:my_parts.Log",
    "checkpoints": "checkpointer: !new:speechbrain.utils.checkpoints.Checkpointer",
    "how fast it steps": f"opt_class: !name:{BRAINS}.Muon {{fused: False}}",
    "a default": f"opt_class: !name:{BRAINS}.Muon {{momentum: 0.95}}",
    "a long name": f"masking: {MODELS}.masking.SpanMasking",
    "follows": f"masking: {MODELS}.SpanMasking {{mask_prob: !ref <mask_prob>}}",
    "a tuple": f"opt_class: !name:{BRAINS}.Muon \n    betas: !tuple (0.9, 0.999)",
}


@pytest.mark.parametrize("kind", MAY)
def test_what_may_change_resumes(before, shipped, kind):
    check_same_run(before(shipped()), shipped(MAY[kind]))
    check_same_run(before(shipped(MAY[kind])), shipped())


def test_what_follows_from_a_key_that_may_change_resumes(before):
    text = "batch_seconds: {0}\npart: !new:my.Part {{half: !ref <batch_seconds> / 2}}\n"
    check_same_run(before(text.format(60)), text.format(30))
    other = text.format(30).replace("/ 2", "/ 4")
    assert "part.half: 30.0, now it is 15.0" in named(before(text.format(60)), other)


def test_a_key_that_follows_from_one_that_may_change_stays(before):
    text = "total_steps: {0}\nmy_steps: !ref <total_steps> / 4\n"
    found = named(before(text.format(400)), text.format(800))
    assert "my_steps: 100.0, now it is 200.0" in found


def test_the_keys_that_may_change_are_shipped_with_parts_that_take_them(shipped):
    """Otherwise the tests above would say nothing."""
    text = shipped()
    for key in ("batch_seconds", "total_steps", "number_of_epochs", "output_folder"):
        assert key in MAY_CHANGE and re.search(rf": !ref <{key}>", text), key


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Before attention_type was the class's own choice, before Adam was fused,
        # before BiRQ had chunks.
        ("{attention_type: RoPEMHA}", "{}"),
        ("{}", "{chunking: !ref <chunking>}\nchunking: !new:my.Sampler {prob: 0.5}"),
        ("{a: 1}", "{}"),
        ("{dropout: !ref <dropout>}\ndropout: 0.3", "{}"),
        ("{}", "{kind: conformer}"),
    ],
)
def test_an_argument_that_an_earlier_version_lacked_or_had_resumes(before, old, new):
    line = "encoder: !new:speechbrain_birq.models.SpeechBrainEncoder {}\n"
    check_same_run(before(line.format(old)), line.format(new))


def test_an_argument_of_no_class_that_can_be_looked_at_is_compared(before):
    folder = before("part: !new:my.Part {a: 1}")
    assert "part.b: not given, now it is 2" in named(
        folder, "part: !new:my.Part {a: 1, b: 2}"
    )
    assert "part: my.Part, now it is my.Other" in named(folder, "part: !new:my.Other")


def test_what_only_running_code_would_tell_is_not_compared(before):
    text = "part: !new:torch.nn.Linear [!apply:os.cpu_count {}, {}]"
    folder = before(text.format("[]", 3))
    check_same_run(folder, text.format("[1]", 3))
    assert "part.out_features: 3, now it is 4" in named(folder, text.format("[]", 4))


def test_arguments_are_the_same_by_place_and_by_name(before):
    folder = before("part: !new:torch.nn.Linear [2, 3]")
    check_same_run(
        folder, "part: !new:torch.nn.Linear {out_features: 3, in_features: 2}"
    )
    layers = "part: !new:torch.nn.Sequential [!new:torch.nn.GELU , !new:torch.nn.{} ]"
    folder = before(layers.format("ReLU"))
    assert "part.1: torch.nn.ReLU" in named(folder, layers.format("Tanh"))


def test_a_default_that_is_a_function_is_the_part_of_that_name(before):
    line = "part: !new:torch.nn.TransformerEncoderLayer\n  d_model: 4\n  nhead: 1\n"
    given = f"{line}  activation: !name:torch.nn.functional."
    check_same_run(before(line), f"{given}relu\n")
    assert "part.activation" in named(before(line), f"{given}gelu\n")


def test_parts_that_refer_to_each_other_often_are_compared_once(before):
    """Each pair would be compared 2^60 times."""
    lines = [f"a{i}: [!ref <a{i + 1}>, !ref <a{i + 1}>]" for i in range(60)]
    folder = before("\n".join([*lines, "a60: 1"]))
    assert "a60: 1, now it is 2" in named(folder, "\n".join([*lines, "a60: 2"]))


def test_settings_that_are_too_large_are_named(before):
    folder = before("a: 1\n")
    with pytest.raises(BadInput, match="cannot be compared"):
        check_same_run(folder, f"a: {'x' * 20_000}\n")


@pytest.mark.parametrize(
    "text", [f"a: {'x ' * 6000}", f"# {'x' * 2**18}", f"a: [{'1, ' * 20_000}]"]
)
def test_settings_that_no_resume_could_read_are_refused_in_a_new_folder(tmp_path, text):
    with pytest.raises(BadInput, match="a run with these settings could not"):
        check_same_run(tmp_path, text)


@pytest.mark.parametrize("path", sorted((ROOT / "hparams").glob("*.yaml")), ids=str)
def test_a_shipped_file_resumes_its_own_run(before, path):
    text = dump(flatten(path))
    check_same_run(before(text), text)


def test_a_run_is_resumed_with_its_own_file(before, tmp_path):
    path = ROOT / "hparams" / "birq_live_tiny.yaml"
    changes = dict(data_folder=str(tmp_path), d_model=16, nhead=2, d_ffn=32)
    folder = before(load_configuration(path, changes).text)
    check_same_run(folder, load_configuration(folder / "hyperparams.yaml").text)
