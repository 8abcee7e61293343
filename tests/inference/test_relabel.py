"""Offline relabeling: codes stored once are the codes that training meets."""

import json
import os
import shutil

import pytest
import torch
from small_runs import (
    assert_equal,
    pretrain,
    process_wide_settings_restored,
    weights,
)

from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.data.shards.convert import shard_corpus
from speechbrain_birq.data.stored_labels import StoredLabels, write_labels
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.pretrained import load_labeller
from speechbrain_birq.inference.relabel import label_shape, relabel

BEST_RQ = dict(
    enhanced_weight_value=0.0,
    anchor_weight_value=1.0,
    label_norm="layer",
    log_interval=1,
)


@pytest.fixture(scope="module")
def best_rq(_corpus_template, tmp_path_factory):
    """Run folder of a BEST-RQ pretraining of two layers."""
    folder = tmp_path_factory.mktemp("runs") / "best_rq"
    pretrain(_corpus_template, folder, **BEST_RQ)
    return folder


@pytest.fixture(scope="module")
def labels(best_rq, tmp_path_factory):
    """Codes of its layer 2."""
    folder = tmp_path_factory.mktemp("labels") / "round1"
    relabel([str(best_rq), "--layer=2", f"--output_folder={folder}"])
    return folder


def each_utterance(run, split):
    reader = AudioReader(16000)
    for row in read_manifest(run / "manifests" / f"{split}.csv"):
        yield row.ID, reader(row.wav)[None]


def stored(folder, split, run):
    """utterance -> (T, G)"""
    names = [name for name, _ in each_utterance(run, split)]
    item = StoredLabels(folder).split(split, names)
    frames = {name: end - start for name, (start, end) in item.spans.items()}
    return {name: item(name, torch.zeros(frames[name])) for name in names}


def losses(folder):
    """Losses of every training step, and of the validation."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["loss"] for line in lines]
    assert len(found) == 3 + 1
    return found


@pytest.mark.parametrize("split", ["train", "dev"])
def test_stored_codes_are_those_of_layer_k_of_the_trained_model(best_rq, labels, split):
    model = load_labeller(best_rq, 2)
    found = stored(labels, split, best_rq)
    for name, wav in each_utterance(best_rq, split):
        codes = model.labels(wav, torch.ones(1)).enhanced[0]
        assert torch.equal(found[name], codes), name
    assert len(torch.unique(torch.cat(list(found.values())))) > 1


def test_the_labeller_has_the_trained_weights(best_rq):
    model = load_labeller(best_rq, 1)
    weights = torch.load(best_checkpoint(best_rq) / "model.ckpt", weights_only=True)
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, weights[f"encoder.{name}"])
    projection = weights["enhanced_quantizer.projection"]
    assert torch.equal(model.enhanced_quantizer.projection, projection)
    assert not model.training and model.label_layer == 1


def test_another_layer_gives_other_codes(best_rq, labels, tmp_path):
    relabel([str(best_rq), "--layer=1", f"--output_folder={tmp_path / 'l'}"])
    one, two = stored(tmp_path / "l", "dev", best_rq), stored(labels, "dev", best_rq)
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_training_on_stored_anchor_codes_is_best_rq(best_rq, corpus, tmp_path):
    model = load_labeller(best_rq, 1)
    for split in ("train", "dev"):
        anchors = (
            (name, model.labels(wav, torch.ones(1)).anchor[0])
            for name, wav in each_utterance(best_rq, split)
        )
        write_labels(tmp_path / "anchors", split, anchors, label_shape(model))
    again = tmp_path / "again"
    pretrain(corpus, again, stored_labels=tmp_path / "anchors", **BEST_RQ)
    assert losses(again) == losses(best_rq)


def test_training_on_layer_k_s_codes_is_another_training(
    best_rq, labels, corpus, tmp_path
):
    pretrain(corpus, tmp_path / "run", stored_labels=labels, **BEST_RQ)
    assert losses(tmp_path / "run") != losses(best_rq)


@pytest.mark.slow
def test_a_second_round_labels_with_the_first(labels, corpus, tmp_path):
    pretrain(corpus, tmp_path / "one", stored_labels=labels, **BEST_RQ)
    relabel([str(tmp_path / "one"), "--layer=2", f"--output_folder={tmp_path / 'two'}"])
    kept = json.loads((tmp_path / "two" / "labels.json").read_text())
    assert kept["run"] == str(tmp_path / "one")
    pretrain(corpus, tmp_path / "last", stored_labels=tmp_path / "two", **BEST_RQ)


def test_channels_of_a_run_without_label_pass_get_their_statistics(corpus, tmp_path):
    """BEST-RQ has never normalized a layer: mean 0 and variance 1 would be wrong."""
    run, folder = tmp_path / "run", tmp_path / "labels"
    pretrain(corpus, run, **BEST_RQ | dict(label_norm="channel"))
    relabel([str(run), "--layer=1", f"--output_folder={folder}"])
    model = load_labeller(run, 1)
    with torch.no_grad():
        frames = [
            model.encoder(*model.frontend(wav, torch.ones(1)), num_layers=1)[0]
            for _, wav in each_utterance(run, "train")
        ]
    states = torch.cat(frames)
    z = (states - states.mean(0)) / (states.var(0, unbiased=False) + 1e-5).sqrt()
    codes = torch.cat(list(stored(folder, "train", run).values()))
    assert torch.equal(codes, model.enhanced_quantizer(z))


def test_unreadable_audio_has_no_labels_and_hurts_nobody(
    best_rq, labels, corpus, tmp_path
):
    run = shutil.copytree(best_rq, tmp_path / "run")
    path = run / "manifests" / "train.csv"
    first = read_manifest(path)[0]
    name, bad = first.ID, tmp_path / "bad.flac"
    bad.write_bytes(b"fLaC")
    path.write_text(path.read_text().replace(first.wav, str(bad)))
    relabel([str(run), "--layer=2", f"--output_folder={tmp_path / 'l'}"])
    found = stored(tmp_path / "l", "train", run)
    whole = stored(labels, "train", best_rq)
    assert found.pop(name).shape == (0, whole.pop(name).shape[1])
    assert all(torch.equal(found[other], whole[other]) for other in whole)


def refused(fails, labels, corpus, tmp_path, *words, **more):
    settings = BEST_RQ | dict(stored_labels=labels) | more
    fails(lambda: pretrain(corpus, tmp_path / "run", **settings), *words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (dict(stack=2), "have stack 4, here it is 2"),
        (dict(num_codes=32), "have num_codes 16, here it is 32"),
        (dict(num_codebooks=2), "have num_codebooks 4, here it is 2"),
        (dict(sample_rate=8000), "have sample_rate 16000, here it is 8000"),
        (dict(valid_split="test"), "no labels of the split 'test'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_codes_that_do_not_fit_are_refused(
    labels, corpus, tmp_path, fails, more, words
):
    refused(fails, labels, corpus, tmp_path, words, **more)


def test_a_folder_without_labels_is_refused(corpus, tmp_path, fails):
    refused(fails, corpus, corpus, tmp_path, "no stored labels in")


def test_utterances_without_labels_are_refused(labels, corpus, tmp_path, fails):
    new = corpus / "train" / "11" / "1" / "11-1-0009.flac"
    shutil.copyfile(new.with_name("11-1-0000.flac"), new)
    words = "lacks the labels of 1 utterances, for example of 11-1-0009"
    refused(fails, labels, corpus, tmp_path, words)


def test_labels_that_are_cut_off_are_refused(labels, corpus, tmp_path, fails):
    own = shutil.copytree(labels, tmp_path / "own")
    path = own / "train" / "codes.u16"
    path.write_bytes(path.read_bytes()[:-2])
    refused(fails, own, corpus, tmp_path, "is cut off or empty")


def test_audio_that_has_changed_is_refused(labels):
    item = StoredLabels(labels).split("train", ["11-1-0000"])
    with pytest.raises(BadInput, match="11-1-0000 has 3 frames and 20 stored labels"):
        item("11-1-0000", torch.zeros(3))


def test_a_killed_labeling_leaves_no_split(tmp_path, best_rq):
    shape = label_shape(load_labeller(best_rq, 1))

    def killed():
        yield "a", torch.zeros(3, 4, dtype=torch.long)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labels(tmp_path, "train", killed(), shape)
    assert not (tmp_path / "train").exists()
    good = [("a", torch.ones(2, 4, dtype=torch.long))]
    assert write_labels(tmp_path, "train", good, shape) == 2
    assert [path.name for path in tmp_path.glob("*partial")] == []


def refuses(fails, *words, **arguments):
    arguments = {key: str(value) for key, value in arguments.items()}
    run = arguments.pop("run")
    argv = [run, *(f"--{key}={value}" for key, value in arguments.items())]
    with process_wide_settings_restored():
        fails(lambda: relabel(argv), *words)


def test_a_layer_that_is_not_there_is_refused(best_rq, tmp_path, fails):
    refuses(
        fails,
        f"error: layer 3 is out of range: the encoder of {best_rq} has layers 1 to 2",
        run=best_rq,
        layer=3,
        output_folder=tmp_path / "x",
    )
    assert not (tmp_path / "x").exists()


def test_labels_are_not_mixed(best_rq, labels, fails):
    more = dict(run=best_rq, output_folder=labels)
    refuses(fails, "have layer 2, here it is 1", layer=1, **more)
    refuses(fails, "holds labels of the split 'train' already", layer=2, **more)


@pytest.mark.faults
def test_a_folder_that_another_process_writes_is_refused(best_rq, tmp_path, fails):
    holder = f"process {os.getpid()} on"
    with locked(tmp_path):
        refuses(fails, holder, run=best_rq, layer=2, output_folder=tmp_path)


def test_a_fine_tuning_cannot_label(run_folder, tmp_path, fails):
    arguments = dict(layer=1, output_folder=tmp_path / "x")
    refuses(fails, "no hyperparams.yaml in it", run=run_folder, **arguments)
    (run_folder / "hyperparams.yaml").write_text("encoder: 1\nfrontend: 2\n")
    refuses(fails, "is no pretraining (no model", run=run_folder, **arguments)


def test_a_run_on_shards_cannot_be_relabeled(best_rq, tmp_path, fails):
    run = shutil.copytree(best_rq, tmp_path / "run")
    (run / "manifests" / "dev.csv").unlink()
    refuses(fails, "not for shards", run=run, layer=1, output_folder=tmp_path / "x")


def test_a_foreign_run_folder_runs_nothing(best_rq, tmp_path, fails):
    run = shutil.copytree(best_rq, tmp_path / "run")
    path = run / "hyperparams.yaml"
    ours, theirs = (
        "!new:speechbrain_birq.models.FrontEnd",
        "!new:subprocess.Popen",
    )
    assert ours in path.read_text()
    path.write_text(path.read_text().replace(ours, theirs))
    arguments = dict(run=run, layer=1, output_folder=tmp_path / "x")
    refuses(fails, "wants to build subprocess.Popen", **arguments)


def test_codes_that_were_never_fitted_label_nothing(corpus, tmp_path, fails):
    run, settings = tmp_path / "run", BEST_RQ | dict(fit_seconds=8)
    pretrain(corpus, run, "birq_plus_tiny.yaml", **settings)
    words = "was never fitted, because the run has enhanced_weight_value 0"
    refuses(fails, words, run=run, layer=1, output_folder=tmp_path / "x")


def test_a_device_that_is_not_there_is_refused(best_rq, tmp_path, fails):
    arguments = dict(run=best_rq, layer=1, output_folder=tmp_path / "x")
    refuses(fails, "no device 'cuda:99'", device="cuda:99", **arguments)


def test_a_training_on_shards_takes_no_stored_labels(labels, corpus, tmp_path, fails):
    shards = tmp_path / "shards"
    shard_corpus(corpus, shards, splits=["train", "dev"])
    words = "stored_labels are for corpora that are read file by file"
    refused(fails, labels, shards, tmp_path, words, "'train' lies in shards")


def test_a_stopped_training_on_stored_labels_ends_as_one_in_a_go(
    labels, corpus, tmp_path
):
    settings = BEST_RQ | dict(stored_labels=labels, number_of_epochs=2)
    long = settings | dict(optimizer_step_limit=None, total_steps=50)
    pretrain(corpus, tmp_path / "whole", **long)
    pretrain(corpus, tmp_path / "two", **long | dict(number_of_epochs=1))
    pretrain(corpus, tmp_path / "two", **long)
    assert_equal(weights(tmp_path / "two"), weights(tmp_path / "whole"))
