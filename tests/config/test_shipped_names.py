"""Names of the YAML files that come with the package, in place of paths."""

import pytest
from small_runs import ROOT

from speechbrain_birq.config import load_configuration
from speechbrain_birq.config.shipped import carried_folder, find_file
from speechbrain_birq.errors import BadInput


def test_a_name_is_the_file_that_comes_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert carried_folder("hparams") == ROOT / "hparams"
    assert find_file("birq_tiny") == ROOT / "hparams/birq_tiny.yaml"


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birq_tiny").write_text("seed: 1\n")
    assert find_file("birq_tiny").read_text() == "seed: 1\n"


def test_a_folder_of_that_name_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birq_tiny").mkdir()
    assert find_file("birq_tiny").parent == ROOT / "hparams"


@pytest.mark.parametrize("wrong", ["birq_tinny", "birq_tiny.yaml", "x/birq_tiny.yaml"])
def test_a_misspelled_name_or_a_missing_file_names_the_nearest(
    tmp_path, monkeypatch, wrong
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as caught:
        find_file(wrong)
    assert f"no YAML file {wrong}:" in str(caught.value)
    assert "mean birq_tiny," in str(caught.value)


def test_what_resembles_no_name_lists_them_all():
    with pytest.raises(BadInput, match=r"one of best_rq_base, .*probe_tiny"):
        find_file("results/mine.yaml")


def test_a_delta_finds_its_complete_file_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hparams = load_configuration("best_rq_tiny", {"data_folder": "x"}).hparams
    assert hparams["enhanced_weight_value"] == 0
    assert hparams["num_layers"] == 4  # of birq_tiny.yaml
