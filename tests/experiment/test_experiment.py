"""Whole runs on a tiny corpus, and every bad input told in one sentence."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import ruamel.yaml
import soundfile
import torch
from small_runs import (
    FINETUNE,
    PRETRAIN,
    ROOT,
    assert_equal,
    encoder_weights,
    finetune,
    log,
    manifest,
    pretrain,
    run,
    weights,
)

from speechbrain_birq import experiment
from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser, StreamingRecogniser
from speechbrain_birq.metrics.curves import read_metrics
from speechbrain_birq.models.encoders.chunking import make_chunk
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.frontend import FrontEnd


@pytest.fixture(scope="module")
def pretrained(_corpus_template, tmp_path_factory):
    """Run folder of a finished pretraining, and what it returned."""
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    return folder, pretrain(_corpus_template, folder)


@pytest.fixture
def own_pretrained(pretrained, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(pretrained[0], tmp_path / "pretrained")


def chapter(corpus, split="train", speaker=11):
    return corpus / split / str(speaker) / "1"


# From pretraining to error rates.


def test_pretraining_leaves_a_self_contained_run_folder(pretrained):
    folder, figures = pretrained
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "hyperparams.yaml",
        "architecture.yaml",
        "metrics.jsonl",
        "results.json",
        "manifests",
        "save",
        "log.txt",
    }
    assert "tensorboard" not in names
    resolved = (folder / "hyperparams.yaml").read_text()
    assert "d_model: 16" in resolved
    assert "!include" not in resolved
    architecture = ruamel.yaml.YAML().load(folder / "architecture.yaml")
    assert list(architecture) == ["frontend", "encoder"]
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == 3 and results["seconds"] > 0
    (checkpoint,) = (folder / "save").iterdir()
    assert {path.name for path in checkpoint.iterdir()} == {
        "CKPT.yaml",
        "brain.ckpt",
        "epoch_counter.ckpt",
        "loader.ckpt",
        "model.ckpt",
        "optimizer.ckpt",
        "ranks.ckpt",
        "run_log.ckpt",
        "SHA256SUMS",
    }
    assert [row["step"] for row in read_metrics(folder, "train")] == [0]
    (valid,) = read_metrics(folder, "valid")
    assert valid["step"] == 3
    assert figures == valid


def test_the_checkpoint_holds_quantizers_and_front_end(pretrained):
    state = weights(pretrained[0])
    for name in (
        "anchor_quantizer.projection",
        "enhanced_quantizer.projection",
        "anchor_quantizer.codebook.codes",
        "label_norm.running_mean",
    ):
        assert name in state
    assert torch.isfinite(state["label_norm.running_mean"]).all()
    assert state["label_norm.num_batches"] == 3


def test_fine_tuning_starts_from_the_pretrained_encoder(
    _corpus_template, pretrained, tmp_path
):
    output = tmp_path / "ctc"
    run_folder, _ = pretrained
    rates = finetune(_corpus_template, output, pretrained=run_folder, freeze_steps=1000)
    assert_equal(encoder_weights(output), encoder_weights(run_folder))
    # The front end is the pretrained one too: 40 mel channels against the YAML's 80.
    copied = (output / "architecture.yaml").read_text()
    assert copied == (run_folder / "architecture.yaml").read_text()
    assert "n_mels: 40" in copied

    assert rates.keys() == {"test"}
    assert rates["test"]["utterances"] == 3
    results = json.loads((output / "results.json").read_text())
    assert results["test"] == rates["test"]
    assert results["steps"] == 3
    for name in ("wer_test.txt", "errors_test.csv", "characters.json", "metrics.jsonl"):
        assert (output / name).stat().st_size > 0
    assert all(f"{s}-1-0000" in (output / "wer_test.txt").read_text() for s in (31, 33))
    (valid,) = read_metrics(output, "valid")
    assert valid["step"] == 3 and valid["cer"] >= 0
    assert f"from {run_folder}" in log(output)


def test_a_probe_is_trained_beside_an_encoder_that_does_not_move(
    _corpus_template, pretrained, tmp_path
):
    output = tmp_path / "probe"
    folders = dict(data_folder=_corpus_template, output_folder=output)
    run(
        experiment.finetune,
        "probe_tiny.yaml",
        FINETUNE,
        **folders,
        pretrained=pretrained[0],
        lr=0.1,
    )
    assert_equal(encoder_weights(output), encoder_weights(pretrained[0]))
    results = json.loads((output / "results.json").read_text())
    assert len(results["layer_weights"]) == 2 + 1  # input projection, two layers
    assert len(set(results["layer_weights"])) > 1  # they have moved apart
    assert (output / "layers.png").stat().st_size > 0
    # A probe is no recogniser: its linear layer hears a mixture of layers.
    with pytest.raises(BadInput, match="another architecture"):
        Recogniser(output)


def test_fine_tuning_moves_an_encoder_that_is_not_frozen(
    _corpus_template, pretrained, tmp_path
):
    finetune(_corpus_template, tmp_path / "ctc", pretrained=pretrained[0])
    before, after = encoder_weights(pretrained[0]), encoder_weights(tmp_path / "ctc")
    assert before.keys() == after.keys()
    name = "encoder.input.linear.weight"
    assert not torch.equal(before[name], after[name])
    # Three small steps, not another start.
    assert (before[name] - after[name]).abs().max() < 0.01


def test_fresh_layers_start_at_random_and_the_others_pretrained(
    _corpus_template, pretrained, tmp_path
):
    settings = dict(pretrained=pretrained[0], lr_encoder=0, fresh_layers=1)
    finetune(_corpus_template, tmp_path / "ctc", **settings)
    before, after = encoder_weights(pretrained[0]), encoder_weights(tmp_path / "ctc")
    fresh = ("encoder.layers.1.", "encoder.norm.")  # of two layers
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(fresh) for name in changed)
    matrices = {n for n in before if n.startswith(fresh) and before[n].dim() > 1}
    assert matrices <= changed
    name = "encoder.layers.1.mha_layer.out_proj.weight"
    assert (before[name] - after[name]).abs().max() > 0.01  # more than three steps


def test_more_fresh_layers_than_there_are_is_told(
    _corpus_template, pretrained, tmp_path, fails
):
    settings = dict(pretrained=pretrained[0], fresh_layers=3)
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", **settings),
        "fresh_layers 3",
        "2 layers",
    )


def test_fresh_layers_are_not_to_be_frozen(
    _corpus_template, pretrained, tmp_path, fails
):
    settings = dict(pretrained=pretrained[0], fresh_layers=1, freeze_steps=2)
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", **settings),
        "freeze_steps would hold the fresh_layers",
    )


def test_recognition_can_be_trained_from_scratch(_corpus_template, tmp_path):
    rates = finetune(
        _corpus_template, tmp_path / "ctc", n_mels=40, test_splits="[dev, test]"
    )
    assert rates.keys() == {"dev", "test"}
    assert "n_mels: 40" in (tmp_path / "ctc" / "architecture.yaml").read_text()
    assert (tmp_path / "ctc" / "wer_dev.txt").is_file()


def test_best_rq_runs_from_its_own_yaml(_corpus_template, tmp_path):
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "run")
    figures = run(experiment.pretrain, "best_rq_tiny.yaml", PRETRAIN, **folders)
    assert "F" not in figures and figures["loss"] == figures["G"]


def test_the_papers_form_runs_from_its_own_yaml(_corpus_template, tmp_path):
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "run")
    settings = PRETRAIN | folders | dict(precision="bf16")
    figures = run(experiment.pretrain, "birq_paper_tiny.yaml", settings)
    assert figures["loss"] == pytest.approx(0.1 * figures["F"] + 2.4 * figures["G"])
    assert "--precision=bf16" in log(tmp_path / "run")


# Resuming.


def test_a_resumed_run_goes_on_from_its_step_as_if_never_stopped(
    _corpus_template, tmp_path
):
    more = dict(optimizer_step_limit=None, label_noise=True, dropout=0.1)
    pretrain(_corpus_template, tmp_path / "straight", number_of_epochs=2, **more)
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=1, **more)
    half = json.loads((tmp_path / "resumed" / "results.json").read_text())["steps"]
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=2, **more)
    steps = json.loads((tmp_path / "resumed" / "results.json").read_text())["steps"]
    assert steps == 2 * half > 2
    valid = read_metrics(tmp_path / "resumed", "valid")
    assert [row["step"] for row in valid] == [half, steps]
    assert valid == read_metrics(tmp_path / "straight", "valid")
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))


def test_a_finished_run_is_not_trained_again(_corpus_template, own_pretrained):
    before = weights(own_pretrained)
    pretrain(_corpus_template, own_pretrained)
    assert_equal(weights(own_pretrained), before)
    assert len(read_metrics(own_pretrained, "valid")) == 1


class Killed(Exception):
    pass


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_killed_within_an_epoch_resumes_exactly(
    _corpus_template, tmp_path, monkeypatch, accumulation
):
    more = dict(
        optimizer_step_limit=None,
        label_noise=True,
        dropout=0.1,
        batch_seconds=2,
        ckpt_interval_minutes=0,
        ckpt_interval_steps=3,
        grad_accumulation_factor=accumulation,
    )
    pretrain(_corpus_template, tmp_path / "straight", **more)

    fit_batch = BiRQBrain.fit_batch

    def killed(self, batch):
        if self.step == 5:
            raise Killed
        return fit_batch(self, batch)

    monkeypatch.setattr(BiRQBrain, "fit_batch", killed)
    with pytest.raises(Killed):
        pretrain(_corpus_template, tmp_path / "killed", **more)
    monkeypatch.undo()
    pretrain(_corpus_template, tmp_path / "killed", **more)
    straight, resumed = (
        json.loads((tmp_path / name / "results.json").read_text())["steps"]
        for name in ("straight", "killed")
    )
    assert straight == resumed
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "killed"))


def test_another_width_in_the_same_folder_is_refused(
    _corpus_template, own_pretrained, fails
):
    before = {p: p.read_bytes() for p in own_pretrained.glob("*.yaml")}
    fails(
        lambda: pretrain(
            _corpus_template, own_pretrained, d_model=32, optimizer_step_limit=5
        ),
        str(own_pretrained),
        "d_model: 16, now it is 32",
        "another --output_folder",
    )
    # What the folder says about its checkpoint is still true.
    assert {p: p.read_bytes() for p in own_pretrained.glob("*.yaml")} == before


def test_from_scratch_then_pretrained_in_one_folder_is_refused(
    corpus, pretrained, tmp_path, fails
):
    finetune(corpus, tmp_path / "run")
    fails(
        lambda: finetune(corpus, tmp_path / "run", pretrained=pretrained[0]),
        "pretrained: None",
        "another --output_folder",
    )


def test_from_scratch_nothing_is_frozen_and_one_rate_holds(corpus, tmp_path):
    finetune(corpus, tmp_path / "run", freeze_steps=100, lr_encoder=1e-9, lr=1e-3)
    weights = best_checkpoint(tmp_path / "run") / "model.ckpt"
    trained = torch.load(weights, weights_only=True)[
        "encoder.layers.0.norm1.norm.weight"
    ]
    assert (trained != 1).any()


@pytest.mark.parametrize("device", ["cuda:9", "nonsense"])
def test_a_device_that_is_not_there_is_one_sentence(corpus, tmp_path, fails, device):
    fails(lambda: pretrain(corpus, tmp_path / "run", device=device))


# Data that is not as it should be.


def test_stereo_and_8_khz_are_trained_on(corpus, tmp_path):
    for path in corpus.glob("train/*/*/*.*"):
        if path.stem not in ("12-1-0001", "13-1-0000") and path.suffix != ".txt":
            path.unlink()
    pretrain(corpus, tmp_path / "run", number_of_epochs=2)
    assert manifest(tmp_path / "run", "train").keys() == {"12-1-0001", "13-1-0000"}
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] == 3
    assert "skipped" not in log(tmp_path / "run")


def test_unreadable_files_are_named_and_left_out(corpus, tmp_path):
    good = chapter(corpus) / "11-1-0000.flac"
    (chapter(corpus) / "11-1-0007.flac").write_bytes(b"no audio at all")
    (chapter(corpus) / "11-1-0008.wav").write_bytes(b"")
    truncated = chapter(corpus) / "11-1-0009.flac"
    truncated.write_bytes(good.read_bytes()[:3000])
    pretrain(corpus, tmp_path / "run", optimizer_step_limit=None)
    told = log(tmp_path / "run")
    for name in ("11-1-0007.flac", "11-1-0008.wav"):
        assert f"{name}: " in told
    assert "skipped 2 of" in told
    used = manifest(tmp_path / "run", "train")
    assert "11-1-0000" in used and "11-1-0007" not in used and "11-1-0008" not in used
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] >= 2


@pytest.mark.parametrize("start", [pretrain, finetune])
def test_a_split_of_truncated_files_is_told(corpus, tmp_path, fails, start):
    """The headers are good, so only validation finds out."""
    for path in corpus.glob("dev/*/*/*.flac"):
        path.write_bytes(path.read_bytes()[:400])
    for path in corpus.glob("dev/*/*/*.wav"):
        path.unlink()
    fails(
        lambda: start(corpus, tmp_path / "run", n_mels=40),
        "no utterance of the validation split could be read",
    )
    assert "21-1-0000.flac: unreadable" in log(tmp_path / "run")


def test_transcripts_and_audio_that_do_not_match_are_named(corpus, tmp_path):
    transcripts = chapter(corpus) / "11-1.trans.txt"
    first, *_ = transcripts.read_text().splitlines()
    transcripts.write_text(f"{first}\n11-1-0099 NO AUDIO HERE\n")
    finetune(corpus, tmp_path / "ctc", n_mels=40)
    told = log(tmp_path / "ctc")
    assert "1 transcripts without audio: 11-1-0099" in told
    assert "1 recordings without a transcript: 11-1-0001" in told
    assert "left out 1 of 6 utterances" in told
    assert "H" in json.loads((tmp_path / "ctc/characters.json").read_text())


def test_an_utterance_shorter_than_one_span_is_trained_on(corpus, tmp_path):
    shutil.rmtree(corpus / "train")
    folder = chapter(corpus)
    folder.mkdir(parents=True)
    signal, rate = soundfile.read(chapter(corpus, "dev", 21) / "21-1-0000.flac")
    soundfile.write(folder / "11-1-0000.flac", signal[: rate // 4], rate)
    pretrain(corpus, tmp_path / "run", min_seconds=0.1, optimizer_step_limit=1)
    (row,) = read_metrics(tmp_path / "run", "train")
    assert row["G"] > 0 and row["anchor_used_codes"] >= 1


def test_a_missing_data_folder_is_told(tmp_path, fails):
    fails(
        lambda: pretrain(tmp_path / "nowhere", tmp_path / "run"),
        str(tmp_path / "nowhere"),
        "does not exist",
        "--data_folder",
    )


def test_no_data_folder_is_told(tmp_path, fails):
    fails(lambda: pretrain(None, tmp_path / "run"), "data_folder")


def test_an_empty_data_folder_is_told(tmp_path, fails):
    (tmp_path / "empty").mkdir()
    fails(lambda: pretrain(tmp_path / "empty", tmp_path / "run"), "no split 'train'")


def test_a_split_that_is_not_there_is_told_with_those_that_are(corpus, tmp_path, fails):
    fails(
        lambda: pretrain(corpus, tmp_path / "run", train_split="train-clean-100"),
        "no split 'train-clean-100'",
        "dev, test, train",
    )


def test_a_split_without_audio_is_told(corpus, tmp_path, fails):
    for path in corpus.glob("train/*/*/*"):
        if path.suffix != ".txt":
            path.unlink()
    fails(lambda: pretrain(corpus, tmp_path / "run"), "no readable audio", ".flac")


def test_a_split_of_nothing_readable_is_told(corpus, tmp_path, fails):
    for path in corpus.glob("train/*/*/*"):
        if path.suffix != ".txt":
            path.write_bytes(b"")
    fails(lambda: pretrain(corpus, tmp_path / "run"), "no readable audio")


def test_utterances_all_too_short_are_told(corpus, tmp_path, fails):
    fails(
        lambda: pretrain(corpus, tmp_path / "run", min_seconds=10), "shorter than 10 s"
    )


def test_fine_tuning_without_transcripts_is_told(corpus, tmp_path, fails):
    for path in corpus.glob("train/*/*/*.txt"):
        path.unlink()
    fails(lambda: finetune(corpus, tmp_path / "ctc"), "no transcripts", "'train'")


# Settings that are not as they should be.


@pytest.mark.parametrize("layer", [0, 3])
def test_a_label_layer_out_of_range_is_told(_corpus_template, tmp_path, fails, layer):
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "run", label_layer=layer),
        f"label_layer {layer} is out of range",
        "layers 1 to 2",
    )


def test_a_misspelt_key_is_told_with_the_nearest(_corpus_template, tmp_path, fails):
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "run", label_layr=1),
        "'label_layr'",
        "did you mean 'label_layer'",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(temperature=-1.0), "temperature takes a number above 0"),
        (dict(nhead=3), "not a multiple of nhead 3"),
        (dict(label_norm="both"), "label_norm must be"),
        (dict(mask_prob=0.0), "mask_prob must be in"),
        (dict(d_model="wide"), "d_model takes a whole number above 0"),
        (dict(optimizer_step_limit="many"), "takes a whole number"),
    ],
)
def test_a_bad_value_is_told(_corpus_template, tmp_path, fails, settings, words):
    fails(lambda: pretrain(_corpus_template, tmp_path / "run", **settings), words)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_output_folder_that_cannot_be_written_is_told(
    _corpus_template, tmp_path, fails, below
):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file in its place")
    fails(
        lambda: pretrain(_corpus_template, blocked / below),
        str(blocked),
        "--output_folder",
    )
    assert blocked.read_text() == "a file in its place"


def test_a_missing_yaml_is_told(tmp_path, fails):
    fails(
        lambda: run(experiment.pretrain, tmp_path / "none.yaml", {}),
        "no YAML file",
        "none.yaml",
    )


def test_a_missing_pretrained_folder_is_told(_corpus_template, tmp_path, fails):
    fails(
        lambda: finetune(
            _corpus_template, tmp_path / "ctc", pretrained=tmp_path / "nowhere"
        ),
        "is not a run folder",
        str(tmp_path / "nowhere"),
    )


def test_a_pretrained_folder_without_checkpoint_is_told(
    _corpus_template, own_pretrained, tmp_path, fails
):
    shutil.rmtree(own_pretrained / "save")
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", pretrained=own_pretrained),
        "no checkpoint in",
    )


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_damaged_weights_in_a_pretrained_folder_are_told(
    _corpus_template, own_pretrained, tmp_path, fails, keep
):
    path = best_checkpoint(own_pretrained) / "model.ckpt"
    path.write_bytes(path.read_bytes()[:keep])
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", pretrained=own_pretrained),
        "model.ckpt",
        "damaged",
    )


def test_a_pretrained_folder_of_another_architecture_is_told(
    _corpus_template, own_pretrained, tmp_path, fails
):
    path = own_pretrained / "architecture.yaml"
    path.write_text(path.read_text().replace("d_model: 16", "d_model: 32"))
    fails(
        lambda: finetune(
            _corpus_template, tmp_path / "ctc", pretrained=own_pretrained, d_model=None
        ),
        "of another architecture",
        str(own_pretrained),
    )


@pytest.mark.parametrize(
    "attack",
    [
        "frontend: !apply:os.system [touch {target}]\nencoder: 1\n",
        "frontend: !new:subprocess.Popen\n    args: [touch, {target}]\nencoder: 1\n",
        'frontend: !!python/object/apply:os.system ["touch {target}"]\nencoder: 1\n',
        "frontend: !new:torch.nn.modules.module.os.system [touch {target}]\n",
        "frontend: !include:{target}\nencoder: 1\n",
    ],
)
def test_a_malicious_run_folder_runs_nothing(
    _corpus_template, own_pretrained, tmp_path, fails, attack
):
    target = tmp_path / "owned"
    (own_pretrained / "architecture.yaml").write_text(attack.format(target=target))
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", pretrained=own_pretrained),
        "architecture.yaml",
    )
    assert not target.exists()


def test_broken_yaml_in_a_run_folder_is_told(
    _corpus_template, own_pretrained, tmp_path, fails
):
    (own_pretrained / "architecture.yaml").write_text("frontend: [1, 2\nencoder: }")
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", pretrained=own_pretrained),
        "architecture.yaml",
    )


def test_a_recipe_tells_a_bad_key_in_one_sentence(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "recipes/LibriSpeech/pretrain.py",
            ROOT / "hparams/birq_tiny.yaml",
            f"--data_folder={tmp_path}",
            "--num_layer=3",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "did you mean 'num_layers'" in done.stderr
    assert not list(tmp_path.iterdir())


# Streaming: global statistics, chunks.

STREAMING = dict(normalize="global", normalize_seconds=3, chunk_prob=1)
STREAMING |= dict(chunk_min=2, chunk_max=4, left_chunks_min=1, left_chunks_max=2)
CHUNKS = {k: v for k, v in STREAMING.items() if not k.startswith("normalize")}


def statistics(folder):
    prefix = "frontend.statistics."
    return {k: v for k, v in weights(folder).items() if k.startswith(prefix)}


@pytest.fixture
def chunks_seen(monkeypatch):
    """(training, num_layers, chunk) of every call of an encoder."""
    calls, forward = [], SpeechBrainEncoder.forward

    def spied(self, frames, lengths, num_layers=None, chunk=None):
        calls.append((self.training, num_layers, chunk))
        return forward(self, frames, lengths, num_layers, chunk)

    monkeypatch.setattr(SpeechBrainEncoder, "forward", spied)
    return calls


@pytest.fixture
def no_estimate(monkeypatch):
    """no_estimate(): from now on, estimating statistics is an error."""

    def forbid():
        monkeypatch.setattr(FrontEnd, "estimate", None)

    return forbid


def test_a_streaming_recogniser_from_pretraining_to_text(
    _corpus_template, tmp_path, chunks_seen, no_estimate
):
    first, second = tmp_path / "pretrained", tmp_path / "ctc"
    pretrain(_corpus_template, first, **STREAMING)
    masked = [chunk for train, layers, chunk in chunks_seen if train and layers is None]
    assert len(masked) == 3
    assert {chunk.chunk_size for chunk in masked} <= {2, 3, 4}
    assert not any(chunk for train, layers, chunk in chunks_seen if layers or not train)

    no_estimate()
    chunks_seen.clear()
    more = CHUNKS | dict(test_chunk_size=4, test_left_chunks=1)
    rates = finetune(_corpus_template, second, pretrained=first, **more)
    assert all(chunk for train, _, chunk in chunks_seen if train)
    evaluated = [chunk for train, _, chunk in chunks_seen if not train]
    # Three batches each: validation, the test split whole, the test split in chunks.
    assert evaluated == [None] * 6 + [make_chunk(4, 1)] * 3
    assert_equal(statistics(first), statistics(second))
    assert statistics(first)["frontend.statistics.num_frames"] >= 300

    assert rates.keys() == {"test", "test@chunk4"}
    results = json.loads((second / "results.json").read_text())
    for name in rates:
        assert results[name] == rates[name]
        assert (second / f"wer_{name}.txt").stat().st_size > 0
        errors = (second / f"errors_{name}.csv").read_text().splitlines()
        assert len(errors) == 1 + 3
    recogniser = StreamingRecogniser(second, chunk=4, left=1)
    audio = next((_corpus_template / "test").rglob("*.flac"))
    assert isinstance(recogniser.transcribe(audio), str)


def test_statistics_are_those_of_the_first_seconds_in_the_seeds_order(
    _corpus_template, tmp_path
):
    run_folder = tmp_path / "run"
    pretrain(_corpus_template, run_folder, normalize="global", normalize_seconds=3)
    rows = list(manifest(run_folder, "train").values())
    order = torch.Generator().manual_seed(1234)
    reader, budget, frames = AudioReader(16000), 48000, []
    for index in torch.randperm(len(rows), generator=order).tolist():
        signal = reader(rows[index]["wav"])[:budget]
        budget -= len(signal)
        if len(signal):
            frames.append(FrontEnd(n_mels=40).fbank(signal.unsqueeze(0))[0].double())
    assert budget == 0
    frames, saved = torch.cat(frames), statistics(run_folder)
    assert saved["frontend.statistics.num_frames"] == len(frames)
    for name, expected in (
        ("mean", frames.mean(0)),
        ("variance", frames.var(0, False)),
    ):
        value = saved[f"frontend.statistics.{name}"].double()
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)


def test_a_streaming_run_resumes_exactly_and_estimates_nothing_again(
    _corpus_template, tmp_path, no_estimate
):
    more = STREAMING | dict(optimizer_step_limit=None, chunk_prob=0.5)
    pretrain(_corpus_template, tmp_path / "straight", number_of_epochs=2, **more)
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=1, **more)
    no_estimate()
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=2, **more)
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))


def test_statistics_come_from_the_first_rank(monkeypatch):
    """A second rank takes what the first one sends and reads no audio of its own."""
    sent = FrontEnd(n_mels=20, normalize="global")
    sent.estimate([torch.randn(16000)], seconds=1)
    mine = FrontEnd(n_mels=20, normalize="global")
    monkeypatch.setattr(experiment, "if_main_process", lambda: False)
    monkeypatch.setattr(
        experiment, "ddp_broadcast", lambda _: sent.statistics.state_dict()
    )

    class NoCheckpoint:
        def find_checkpoint(self):
            return None

    started = experiment.Experiment({"checkpointer": NoCheckpoint()}, None, None, "")
    experiment._estimate_statistics(started, mine, speech=None)
    assert_equal(mine.state_dict(), sent.state_dict())


def test_recognition_from_scratch_estimates_its_own_statistics(corpus, tmp_path):
    more = STREAMING | dict(n_mels=40)
    rates = finetune(corpus, tmp_path / "ctc", **more)
    assert rates.keys() == {"test"}
    assert statistics(tmp_path / "ctc")["frontend.statistics.num_frames"] >= 300


@pytest.mark.parametrize(
    "settings", [dict(chunk_prob=0.5), dict(test_chunk_size=4)], ids=str
)
def test_chunks_of_a_run_that_waits_for_the_end_are_refused(
    _corpus_template, pretrained, tmp_path, fails, settings
):
    for origin in (dict(pretrained=pretrained[0]), dict(n_mels=40)):
        fails(
            lambda origin=origin: finetune(
                _corpus_template, tmp_path / "ctc", **origin | settings
            ),
            "chunks need normalize: global",
            "normalize: utterance",
        )


def test_statistics_of_nothing_readable_are_told(corpus, tmp_path, fails):
    for path in (corpus / "train").rglob("*.flac"):
        path.write_bytes(path.read_bytes()[:200])
    for path in (corpus / "train").rglob("*.wav"):
        path.unlink()
    fails(
        lambda: pretrain(corpus, tmp_path / "run", normalize="global"),
        "no utterance",
        "train",
    )
