"""What tests of Brains share: batches, hparams, and a log in memory."""

import math

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.epoch_loop import EpochCounter

from speechbrain_birq.brains import CTCBrain, Muon
from speechbrain_birq.brains.label_fitting import LabelFitting
from speechbrain_birq.brains.schedules import Ramp
from speechbrain_birq.decoding.tokens import CharacterTokens

TOKENS = CharacterTokens.from_texts(["ABC DE"])
HOP = 160


def muon(parameters, **settings):
    """Return a Muon that moves every matrix among the parameters."""
    parameters = [*parameters]
    return Muon(parameters, hidden=torch.nn.ParameterList(parameters), **settings)


class Log:
    """RunLog that keeps its rows in memory."""

    def __init__(self):
        self.rows = []

    def report(self, stage, step, figures):
        self.rows.append({"stage": stage, "step": step, **figures})

    def stage(self, stage):
        return [row for row in self.rows if row["stage"] == stage]


def constant(step, epochs):
    return 1.0


class Batches(torch.utils.data.DataLoader):
    """Loader of given batches."""

    def __init__(self, batches):
        super().__init__(batches, batch_size=None, collate_fn=lambda batch: batch)


def example(number, seconds=0.3, text=None):
    """Return an utterance with about a third of its frames masked."""
    generator = torch.Generator().manual_seed(number)
    time = torch.arange(round(seconds * 16000)) / 16000
    pitch = 200 + 100 * torch.rand((), generator=generator)
    sig = 0.1 * torch.sin(6.2832 * pitch * time * (1 + time))
    sig = sig + 0.03 * torch.randn(len(sig), generator=generator)
    frames = (len(sig) // HOP + 1) // 2
    mask = torch.rand(frames, generator=generator) < 0.35
    mask[number % frames] = True
    made = {"id": f"utterance-{number}", "sig": sig, "mask": mask}
    if text is not None:
        made |= {"reference": text, "tokens": TOKENS.encode(text)}
    return made


def broken(number):
    """Return an utterance whose gradient is not finite."""
    bad = example(number)
    bad["sig"][1000] = math.nan
    return bad


def batch_of(*examples):
    return PaddedBatch(list(examples))


def pretraining():
    """Return the ``hparams`` of a ``BiRQBrain`` in its first epoch."""
    hparams = dict(
        seed=1,
        enhanced_weight=Ramp(value=0.7),
        anchor_weight=Ramp(value=1.3),
        label_fitting=LabelFitting(seconds=1, batch_seconds=1),
        lr_schedule=constant,
        epoch_counter=EpochCounter(limit=1),
        run_log=Log(),
        log_interval=1,
        collapse_perplexity=0.0,
        keep_checkpoints=1,
        noprogressbar=True,
        device="cpu",
    )
    hparams["epoch_counter"].current = 1
    return hparams


class Masks:
    """The MaskItem of batches whose masks are ready; it remembers the epoch."""

    epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch


def no_speech():
    raise AssertionError("nothing is fitted here")


def prepared(brain):
    """Bring a Brain into the state that ``fit`` has before its first batch."""
    brain.on_fit_start()
    brain.nonfinite_count = 0
    brain.num_batches = 10**6
    if isinstance(brain, CTCBrain):
        brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.modules.train()
    return brain


def feed(brain, *batches):
    """Train on micro-batches, counted as ``_fit_train`` counts them."""
    losses = []
    for batch in batches:
        brain.step += 1
        losses.append(brain.fit_batch(batch))
    return losses


def parameters(brain):
    return {n: p.detach().clone() for n, p in brain.model.named_parameters()}


def assert_same(first, second, tolerance=1e-6):
    assert first.keys() == second.keys()
    for name in first:
        assert (first[name] - second[name]).abs().max() <= tolerance, name


def moved(first, second):
    return {name for name in first if not torch.equal(first[name], second[name])}


class Nowhere:
    """A checkpointer that only remembers what it was told."""

    def __init__(self):
        self.saved = []

    def add_recoverable(self, *args, **kwargs):
        pass

    def recover_if_possible(self, *args, **kwargs):
        pass

    def save_and_keep_only(self, **kwargs):
        self.saved.append(kwargs)


def validate(brain, *batches):
    brain._fit_valid(Batches(list(batches)), 1, False)
    return brain.hparams.run_log.stage("valid")[-1]


UNEQUAL = [example(1, 0.5), example(2, 0.2), example(3, 0.25)]
SPOKEN = [example(1, 0.5, "AB"), example(2, 0.4, "CDE A"), example(3, 0.45, "D")]
