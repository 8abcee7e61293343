"""Fixtures: a BiRQBrain and a CTCBrain, ready for their first step."""

import pytest
import torch
from small_brains import (
    TOKENS,
    Log,
    Masks,
    constant,
    no_speech,
    prepared,
    pretraining,
)
from speechbrain.utils.epoch_loop import EpochCounter

from speechbrain_birq.brains import BiRQBrain, CTCBrain
from speechbrain_birq.brains.ctc import Transfer
from speechbrain_birq.decoding.decoders import GreedyDecoder
from speechbrain_birq.models.ctc import CTCModel


@pytest.fixture
def make_brain(make_model):
    """make_brain(model overrides, opt_class=..., run_opts=..., **hparams)"""

    def make(
        overrides=None, *, opt_class=None, run_opts=None, checkpointer=None, **more
    ):
        settings = dict(noise=False, mask_noise_std=0.0, gradient=False)
        hparams = pretraining()
        brain = BiRQBrain(
            modules={"model": make_model(**settings | (overrides or {}))},
            opt_class=opt_class or (lambda p: torch.optim.SGD(p, lr=0.05)),
            hparams=hparams | more,
            run_opts=run_opts,
            checkpointer=checkpointer,
            masks=Masks(),
            speech=no_speech,
        )
        return prepared(brain)

    return make


@pytest.fixture
def make_ctc(make_model):
    """make_ctc(kind=..., opt_class=..., transfer=..., **hparams)"""

    def make(
        *,
        kind="conformer",
        opt_class=None,
        checkpointer=None,
        augment=None,
        dropout=0,
        transfer=None,
        **more,
    ):
        pretrained = make_model(kind=kind, dropout=dropout)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = CTCModel(
                frontend=pretrained.frontend,
                encoder=pretrained.encoder,
                num_tokens=len(TOKENS),
                augment=augment,
            )
        hparams = dict(
            seed=1,
            lr_schedule=constant,
            epoch_counter=EpochCounter(limit=1),
            run_log=Log(),
            log_interval=1,
            keep_checkpoints=1,
            noprogressbar=True,
            device="cpu",
        )
        hparams["epoch_counter"].current = 1
        brain = CTCBrain(
            modules={"model": model},
            opt_class=opt_class or (lambda p: torch.optim.SGD(p, lr=0.05)),
            hparams=hparams | more,
            checkpointer=checkpointer,
            tokens=TOKENS,
            decoder=GreedyDecoder(TOKENS),
            transfer=transfer or Transfer(lr_encoder=0.02),
        )
        return prepared(brain)

    return make
