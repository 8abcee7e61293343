"""Fixtures: a finished pretraining that the tests of whole experiments share."""

import shutil

import pytest
from small_runs import finetune, pretrain


@pytest.fixture(scope="session")
def pretrained(_corpus_template, tmp_path_factory):
    """Run folder of a finished pretraining, and what it returned."""
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    return folder, pretrain(_corpus_template, folder)


@pytest.fixture(scope="session")
def finetuned(_corpus_template, pretrained, tmp_path_factory):
    """Run folder of a finished fine-tuning, which is not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finetuned"
    finetune(_corpus_template, folder, pretrained=pretrained[0])
    return folder


@pytest.fixture
def own_pretrained(pretrained, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(pretrained[0], tmp_path / "pretrained")
