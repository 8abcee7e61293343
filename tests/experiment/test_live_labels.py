"""A pretraining whose labels have a live gradient, from its YAML to its labels."""

import json

import pytest
import ruamel.yaml
import torch
from small_runs import ROOT, pretrain, weights

from speechbrain_birq.config.loader import configure
from speechbrain_birq.config.tree import dump
from speechbrain_birq.inference.pretrained import load_labeller


@pytest.fixture(scope="module")
def live(_corpus_template, tmp_path_factory):
    """Run folder of birq_live_tiny.yaml, and its figures."""
    folder = tmp_path_factory.mktemp("runs") / "live"
    pretrain(_corpus_template, folder, "birq_live_tiny.yaml", log_interval=1)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return folder, [json.loads(line) for line in lines]


def test_the_cost_of_the_terms_is_in_every_report(live):
    _, rows = live
    # -H, at least minus the log of 16 codes, and 5 times a squared error
    assert all(-2.78 < row["label_cost"] < 30 for row in rows)


def test_validation_says_what_labels_tell_of_speaker_and_time(live):
    *training, validation = live[1]
    for kind in ("anchor", "enhanced"):
        assert {f"{kind}_speaker_bits", f"{kind}_time_bits"} <= validation.keys()
    assert not [name for row in training for name in row if "speaker" in name]


def test_the_running_mean_of_the_labels_is_saved(live):
    mean = weights(live[0])["label_terms.0.mean"]
    torch.testing.assert_close(mean.sum(-1), torch.ones(len(mean)))


def test_the_labels_of_the_run_need_no_terms(live):
    model = load_labeller(live[0], 1)
    assert len(model.label_terms) == 0
    assert model.label_norm.kind == "channel"


PLAN = ROOT / "experiments/labels/live.yaml"
ARMS = ruamel.yaml.YAML(typ="safe").load(PLAN)["arms"]


@pytest.mark.parametrize("arm", ["live_terms", "live_usage"])
def test_an_arm_of_the_search_trains(_corpus_template, tmp_path, arm):
    settings = dict(ARMS[arm])
    yaml = PLAN.with_suffix("") / settings.pop("yaml")
    limit = dict(optimizer_step_limit=2)
    figures = pretrain(_corpus_template, tmp_path / "run", yaml, **settings | limit)
    assert figures["step"] == 2 and figures["enhanced_used_codes"] > 1


def test_the_shipped_file_is_the_arm_that_was_measured():
    settings = dict(ARMS["live_terms_channel"], output_folder="run")
    arm = configure(PLAN.with_suffix("") / settings.pop("yaml"), settings)
    shipped = configure("birq_live_tiny", dict(output_folder="run"))
    assert shipped.keys() == arm.keys()
    for key in shipped:
        assert dump({key: shipped[key]}) == dump({key: arm[key]})


SIZES = "num_codebooks: !ref <num_codebooks>, num_codes: 3"


@pytest.mark.parametrize(
    "name, lines",
    [
        (
            "UsageEntropy",
            "label_terms: [!new:speechbrain_birq.models.UsageEntropy\n"
            f"    {{weight: 1.0, {SIZES}}}]\n",
        ),
        (
            "Reconstruction",
            "label_terms: [!new:speechbrain_birq.models.Reconstruction\n"
            f"    {{weight: 1.0, {SIZES}, output_dim: 8}}]\n",
        ),
    ],
)
def test_a_term_for_other_codebooks_is_refused(
    _corpus_template, tmp_path, fails, name, lines
):
    yaml = tmp_path / "three.yaml"
    yaml.write_text(f"!include:{ROOT}/hparams/birq_tiny.yaml\n{lines}")
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "run", yaml),
        f"{name} has 4 codebooks of 3 codes",
        "have 4 of 16",
    )


def test_a_reconstruction_of_other_frames_is_refused(_corpus_template, tmp_path, fails):
    yaml = tmp_path / "unstacked.yaml"
    sizes = SIZES.replace("3", "!ref <num_codes>")
    yaml.write_text(
        f"!include:{ROOT}/hparams/birq_tiny.yaml\n"
        "label_terms: [!new:speechbrain_birq.models.Reconstruction\n"
        f"    {{weight: 1.0, {sizes}, output_dim: !ref <n_mels>}}]\n"
    )
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "run", yaml),
        "Reconstruction has an output_dim of 40",
        "front end have 160 features",
    )


def test_terms_without_enhanced_labels_are_refused(_corpus_template, tmp_path, fails):
    run = tmp_path / "run"
    more = dict(enhanced_weight_value=0.0)
    fails(
        lambda: pretrain(_corpus_template, run, "birq_live_tiny.yaml", **more),
        "enhanced_weight_value 0",
        "label_terms",
    )
    assert not run.exists()


def test_a_selector_may_be_any_class(_corpus_template, tmp_path, monkeypatch):
    (tmp_path / "plain_selector.py").write_text(
        "class Nearest:\n    gradient = False\n"
        "    def __call__(self, distances, generator=None):\n"
        "        return (distances == distances.amin(-1, True)).float()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yaml, run = tmp_path / "nearest.yaml", tmp_path / "run"
    yaml.write_text(
        f"!include:{ROOT}/hparams/birq_tiny.yaml\n"
        "selector: !new:plain_selector.Nearest\n"
    )
    pretrain(_corpus_template, run, yaml, optimizer_step_limit=1)
    assert load_labeller(run, 1, ["plain_selector"]).selector.gradient is False
    pretrain(
        _corpus_template,
        tmp_path / "more",
        yaml,
        pretrained=run,
        optimizer_step_limit=1,
        trust=["plain_selector"],
    )
