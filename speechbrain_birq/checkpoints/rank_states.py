"""What every rank has for itself, random states above all, in one checkpoint."""

import logging
import random

import numpy as np
import torch
import torch.distributed as dist
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

from speechbrain_birq.checkpoints.files import load_tensors, save_tensors

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class RankStates:
    """One state of each rank; the first rank writes them all into one file.

    A run that goes on with more ranks has no state for the new ones: they keep theirs.

    Arguments
    ---------
    get : callable
        () -> this rank's state: tensors (on the CPU) and plain values.
    set : callable
        (state, end_of_epoch) restores it.

    Example
    -------
    >>> path = getfixture("tmp_path") / "state"
    >>> RankStates(get=lambda: {"batches": 7}, set=None).save(path)
    >>> RankStates(get=None, set=print).load(path, end_of_epoch=True)
    {'batches': 7} True
    """

    def __init__(self, *, get, set):
        self.get, self.set = get, set
        self.gathered = None

    def gather(self) -> None:
        """Send all states to the first rank; every rank calls this before a save."""
        self.gathered = [self.get()]
        if dist.is_initialized():
            # All ranks get them: NCCL knows no gather to one.
            self.gathered = [None] * dist.get_world_size()
            dist.all_gather_object(self.gathered, self.get())

    @mark_as_saver
    def save(self, path):
        """Save what was gathered, or this rank's state if nothing was."""
        save_tensors(self.gathered or [self.get()], path)

    @mark_as_loader
    def load(self, path, end_of_epoch):
        """Restore this rank's state."""
        states = load_tensors(path)
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if dist.is_initialized() else 0
        if len(states) != ranks:
            logger.warning(
                "the checkpoint is of %d processes, this run has %d: it goes on, but "
                "not exactly as it would have",
                len(states),
                ranks,
            )
        if rank < len(states):
            self.set(states[rank], end_of_epoch)


def random_states(generator) -> dict:
    """The random states of Python, NumPy, torch and a generator of one's own.

    Arguments
    ---------
    generator : torch.Generator
        Of mask noise and Gumbel noise, on the device of the training.
    """
    name, key, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, key.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "device": generator.device.type,
        "generator": generator.get_state(),
        "cuda": torch.cuda.get_rng_state(generator.device) if _on_gpu(generator) else 0,
    }


def set_random_states(generator, states) -> None:
    """Restore what ``random_states`` has returned."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, key, *rest = states["numpy"]
    np.random.set_state((name, np.array(key, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["device"] != generator.device.type:
        logger.warning(
            "the checkpoint was written on %s, the run goes on on %s: noise is drawn "
            "anew",
            states["device"],
            generator.device.type,
        )
        return
    generator.set_state(states["generator"])
    if _on_gpu(generator):
        torch.cuda.set_rng_state(states["cuda"], generator.device)


def _on_gpu(generator):
    return generator.device.type == "cuda"
