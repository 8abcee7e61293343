"""SpeechBrain's run options: --debug, --test_only, a YAML of the other script."""

import hashlib
import json
import re
import shutil

import pytest
from small_runs import FINETUNE, finetune, log, pretrain, run

from speechbrain_birq import experiment
from speechbrain_birq.checkpoints import files


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(_corpus_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ctc"
    finetune(_corpus_template, folder)
    return folder


def flagged(main, yaml, corpus, output, *flags, **more):
    """Like ``run``, with options that have no value."""
    settings = dict(data_folder=corpus, output_folder=output) | more

    def flagged_main(prepare, argv):
        return main(prepare, [*argv, *flags])

    return run(flagged_main, yaml, FINETUNE | settings)


def test_debugging_leaves_a_finished_run_as_it_is(_corpus_template, finished):
    before = contents(finished)
    rates = flagged(
        experiment.finetune, "ctc_tiny.yaml", _corpus_template, finished, "--debug"
    )
    assert rates["test"]["utterances"] > 0
    assert contents(finished) == before


def test_debugging_persistently_refuses_a_folder_with_a_run(
    _corpus_template, finished, fails
):
    before = contents(finished)
    flags = ("--debug", "--debug_persistently")
    fails(
        lambda: flagged(
            experiment.finetune, "ctc_tiny.yaml", _corpus_template, finished, *flags
        ),
        str(finished),
        "holds a run",
    )
    assert contents(finished) == before


def test_test_only_changes_only_scores(_corpus_template, finished):
    before, results = contents(finished), json.loads(log_of_results(finished))
    flagged(
        experiment.finetune, "ctc_tiny.yaml", _corpus_template, finished, "--test_only"
    )
    after = contents(finished)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {"log.txt", ".lock"}
    assert json.loads(log_of_results(finished)) == results
    assert "Test only" not in log(finished)


def log_of_results(folder):
    return (folder / "results.json").read_text()


def test_test_only_scores_a_new_split(_corpus_template, finished):
    before = json.loads(log_of_results(finished))
    flagged(
        experiment.finetune,
        "ctc_tiny.yaml",
        _corpus_template,
        finished,
        "--test_only",
        test_splits="[dev]",
    )
    after = json.loads(log_of_results(finished))
    assert after.keys() - before.keys() == {"dev"}
    assert {key: after[key] for key in before} == before


def test_test_only_before_the_first_validation_is_refused(
    _corpus_template, finished, tmp_path, fails
):
    run = shutil.copytree(finished, tmp_path / "run")
    for path in run.glob("save/CKPT+*/CKPT.yaml"):
        path.write_text(re.sub(r"^cer: .*\n", "", path.read_text(), flags=re.M))
        files.seal(path.parent)
    before = contents(run)

    def start():
        main = experiment.finetune
        flagged(main, "ctc_tiny.yaml", _corpus_template, run, "--test_only")

    fails(start, "--test_only", "was validated yet")
    assert contents(run) == before


@pytest.mark.parametrize("script", ["pretrain", "finetune"])
def test_test_only_without_a_checkpoint_is_refused(
    _corpus_template, tmp_path, fails, script
):
    call = {"pretrain": pretrain, "finetune": finetune}[script]
    words = {"pretrain": "no test split", "finetune": "no checkpoint in"}[script]

    def start():
        main = getattr(experiment, script)
        yaml = "birq_tiny.yaml" if call is pretrain else "ctc_tiny.yaml"
        more = dict(label_layer=1) if call is pretrain else {}
        if call is pretrain:
            more |= dict(fresh_layers=None)
        flagged(main, yaml, _corpus_template, tmp_path / "run", "--test_only", **more)

    fails(start, "--test_only", words)
    assert not (tmp_path / "run").exists()


def test_a_yaml_of_the_other_script_is_one_sentence(_corpus_template, tmp_path, fails):
    fails(
        lambda: pretrain(
            _corpus_template,
            tmp_path / "run",
            "ctc_tiny.yaml",
            label_layer=None,
            num_codes=None,
        ),
        "ctc_tiny.yaml is a YAML for finetune.py",
    )
    assert not (tmp_path / "run").exists()
