"""A mistake in opt_class is one sentence; an error of a user's class stays."""

from functools import partial

import pytest
import torch
from small_runs import FINETUNE, PRETRAIN, ROOT, run

from speechbrain_birq import experiment
from speechbrain_birq.brains import Muon
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

WRONG = {
    "momentum": (partial(Muon, hidden=torch.nn.Linear(2, 2), momentum=1.5), "Muon"),
    "betas": (partial(torch.optim.AdamW, betas=[0.9, 1.5]), "AdamW"),
    "no pair": (partial(torch.optim.AdamW, betas=0.9), "AdamW"),
    "sign": (partial(torch.optim.SGD, lr=0.1, momentum=-1), "SGD"),
    "text": (partial(torch.optim.SGD, lr="high"), "SGD"),
    "no module": (partial(Muon, hidden="encoder"), "Muon", "!ref <encoder>"),
    "missing": (Muon, "Muon", "'hidden'"),
    "sparse": (torch.optim.SparseAdam, "SparseAdam", "take another"),
    "closure": (torch.optim.LBFGS, "LBFGS"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("maker", ["make_brain", "make_ctc"])
def test_a_mistake_is_named(request, maker, kind):
    opt_class, *words = WRONG[kind]
    brain = request.getfixturevalue(maker)()
    brain.opt_class = opt_class
    with pytest.raises(BadInput, match=r"^opt_class: ") as caught:
        brain.init_optimizers()
    for word in words:
        assert word in str(caught.value)


class Own(torch.optim.SGD):
    def __init__(self, params):
        super().__init__(params, lr=0.1, momentum=-1)


@pytest.mark.parametrize("maker", ["make_brain", "make_ctc"])
def test_an_error_of_ones_own_class_is_shown_as_python_shows_it(request, maker):
    brain = request.getfixturevalue(maker)()
    brain.opt_class = Own
    with pytest.raises(ValueError, match="momentum"):
        brain.init_optimizers()


STARTS = {
    "birq_tiny": (experiment.pretrain, PRETRAIN),
    "ctc_tiny": (experiment.finetune, FINETUNE),
}


@pytest.mark.parametrize("base", STARTS)
def test_a_start_with_a_mistake_is_refused(_corpus_template, tmp_path, fails, base):
    main, settings = STARTS[base]
    line = "opt_class: !name:torch.optim.SGD {momentum: -1}"
    yaml, folder = tmp_path / "mine.yaml", tmp_path / "run"
    yaml.write_text(f"!include:{ROOT}/hparams/{base}.yaml\n{line}\n")
    folders = dict(data_folder=_corpus_template, output_folder=folder)
    fails(lambda: run(main, yaml, settings | folders), "opt_class: SGD", "momentum")
    assert not folder.exists()
