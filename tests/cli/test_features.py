"""birq features: a corpus to files, resumable, in every format."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from speechbrain_birq.cli.main import main
from speechbrain_birq.inference import SpeechEncoder


@pytest.fixture
def audio(corpus):
    return sorted(map(str, (corpus / "test").rglob("*.flac")))


def run(run_folder, target, *inputs):
    inputs = [str(word) for word in inputs]
    main(["features", str(run_folder), *inputs, "--output_folder", str(target)])


def load(path):
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path))
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)["features"]
    return torch.load(path, weights_only=True)


def test_a_matrix_and_a_line_a_file(run_folder, audio, tmp_path, capsys):
    run(run_folder, tmp_path / "out", *audio, "--layer", 1)
    encoder = SpeechEncoder(run_folder)
    out = capsys.readouterr().out
    for file in audio:
        target = tmp_path / "out" / f"{Path(file).stem}.pt"
        expected = encoder.features(file, 1)
        torch.testing.assert_close(load(target), expected, rtol=0, atol=1e-5)
        assert f"{target}\t{len(expected)} x 16" in out.splitlines()


@pytest.mark.parametrize("kind", ["pt", "npy", "safetensors"])
@pytest.mark.parametrize(("layer", "numbers"), [("all", [0, 1, 2]), ("2,0", [2, 0])])
def test_formats_layers_and_half_precision(
    run_folder, audio, tmp_path, kind, layer, numbers
):
    if kind == "safetensors":
        pytest.importorskip("safetensors")
    options = "--format", kind, "--layer", layer, "--dtype", "float16"
    run(run_folder, tmp_path, audio[0], *options)
    stored = load(tmp_path / f"{Path(audio[0]).stem}.{kind}")
    assert stored.dtype == torch.float16
    expected = SpeechEncoder(run_folder).features(audio[0], numbers)
    torch.testing.assert_close(stored.float(), expected, rtol=1e-3, atol=1e-3)


def test_a_folder_becomes_the_same_tree(run_folder, corpus, tmp_path):
    run(run_folder, tmp_path / "out", corpus / "test", "--batch_seconds", 3)
    audio = [p for p in (corpus / "test").rglob("*") if p.suffix in (".flac", ".wav")]
    expected = {p.relative_to(corpus / "test").with_suffix(".pt") for p in audio}
    found = (tmp_path / "out").rglob("*.pt")
    assert {path.relative_to(tmp_path / "out") for path in found} == expected


def test_a_rerun_makes_only_what_is_missing_or_older(
    run_folder, corpus, tmp_path, capsys
):
    target = tmp_path / "out"
    run(run_folder, target, corpus / "test")
    files = sorted(target.rglob("*.pt"))
    files[0].unlink()
    os.utime(files[1], (0, 0))  # its recording has changed since
    before = files[2].stat()
    capsys.readouterr()
    run(run_folder, target, corpus / "test")
    assert "1 of 3 files are done already" in capsys.readouterr().out
    assert files[0].is_file() and files[1].stat().st_mtime > 0
    assert files[2].stat() == before


OTHER = {"layer": "2", "dtype": "float16"}


@pytest.mark.parametrize(("name", "value"), OTHER.items())
def test_other_features_in_one_folder_are_refused(
    run_folder, audio, tmp_path, fails, name, value
):
    same = audio[0], "--layer", 1
    run(run_folder, tmp_path / "out", *same)
    fails(
        lambda: run(run_folder, tmp_path / "out", *same, f"--{name}", value),
        str(tmp_path / "out"),
        f"{name} ",
        "--output_folder",
    )
    settings = json.loads((tmp_path / "out" / "features.json").read_text())
    assert settings["layer"] == 1 and settings["frame_ms"] == 40


def test_weights_by_their_name_are_the_same_from_any_folder(
    audio, tmp_path, monkeypatch
):
    for place in ("one", "two"):  # refused if the run were another one
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        run("best_rq_tiny", tmp_path / "out", audio[0])
    settings = json.loads((tmp_path / "out" / "features.json").read_text())
    assert Path(settings["run"]).is_dir()


def test_files_that_would_overwrite_each_other_are_refused(run_folder, tmp_path, fails):
    target = tmp_path / "features"
    files = ["a1/x.flac", "a1/y.flac", "a2/x.wav"]
    fails(lambda: run(run_folder, target, *files), "a1/x.flac and a2/x.wav")
    assert not target.exists()


@pytest.mark.faults
def test_a_bad_file_is_named_and_the_others_are_written(
    run_folder, corpus, tmp_path, capsys
):
    (corpus / "test" / "bad.wav").write_text("no audio")
    with pytest.raises(SystemExit) as caught:
        run(run_folder, tmp_path / "out", corpus / "test")
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert f"error: cannot read {corpus}/test/bad.wav" in told
    assert told.splitlines()[-1] == "error: 1 of 4 files could not be used"
    assert len(list((tmp_path / "out").rglob("*.pt"))) == 3
    assert not list((tmp_path / "out").rglob("*.partial"))


@pytest.mark.faults
def test_a_full_disk_is_one_sentence(run_folder, audio, tmp_path, fails, monkeypatch):
    def full(state, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    target = tmp_path / "out"
    fails(
        lambda: run(run_folder, target, audio[0]),
        str(target),
        "No space left on device",
    )
    assert [path.name for path in target.iterdir()] == ["features.json"]


def test_a_folder_without_audio_and_a_device_that_is_not_there(
    run_folder, audio, tmp_path, fails
):
    (tmp_path / "empty").mkdir()
    fails(lambda: run(run_folder, tmp_path / "out", tmp_path / "empty"), "no audio")
    options = "--device", "nowhere"
    fails(lambda: run(run_folder, tmp_path / "out", audio[0], *options), "'nowhere'")


def test_a_layer_that_is_no_number_is_named_in_the_users_words(run_folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["features", str(run_folder), "a.wav", "--layer", "last"])
    told = capsys.readouterr().err
    assert "'last' is no layer: give a number, several as 3,7, or all" in told
