"""Pretrained run folders that are missing, corrupt or malicious."""

import shutil

import pytest
from small_runs import (
    finetune,
)

from speechbrain_birq.checkpoints.run_folder import best_checkpoint

pytestmark = pytest.mark.faults


def test_a_missing_pretrained_folder_is_named(_corpus_template, tmp_path, fails):
    fails(
        lambda: finetune(
            _corpus_template, tmp_path / "ctc", pretrained=tmp_path / "nowhere"
        ),
        str(tmp_path / "nowhere"),
    )


def test_a_pretrained_folder_without_checkpoint_is_named(
    _corpus_template, own_pretrained, tmp_path, fails
):
    shutil.rmtree(own_pretrained / "save")
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", pretrained=own_pretrained),
        "no checkpoint",
        str(own_pretrained / "save"),
    )


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_corrupt_weights_of_a_pretrained_folder_are_named(
    _corpus_template, own_pretrained, tmp_path, fails, keep
):
    path = best_checkpoint(own_pretrained) / "model.ckpt"
    path.write_bytes(path.read_bytes()[:keep])
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", pretrained=own_pretrained),
        str(path.parent),
        path.name,
    )


def test_a_pretrained_folder_of_another_architecture_is_named(
    _corpus_template, own_pretrained, tmp_path, fails
):
    path = own_pretrained / "architecture.yaml"
    path.write_text(path.read_text().replace("d_model: 16", "d_model: 32"))
    fails(
        lambda: finetune(
            _corpus_template, tmp_path / "ctc", pretrained=own_pretrained, d_model=None
        ),
        "architecture",
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
        str(own_pretrained / "architecture.yaml"),
    )
    assert not target.exists()


def test_broken_yaml_in_a_run_folder_is_named(
    _corpus_template, own_pretrained, tmp_path, fails
):
    (own_pretrained / "architecture.yaml").write_text("frontend: [1, 2\nencoder: }")
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", pretrained=own_pretrained),
        str(own_pretrained / "architecture.yaml"),
    )
