"""States that differ between ranks, random states above all, in one checkpoint."""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

from speechbrain_birq.checkpoints.files import load_tensors, save_tensors
from speechbrain_birq.distributed import gathered

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class RankStates:
    """One state of each rank; the first rank writes them all into one file.

    A run that resumes with more ranks has no state for the new ones: they keep theirs.

    Arguments
    ---------
    get : callable
        Returns this rank's state: tensors on the CPU and plain values.
    set : callable
        (state, end_of_epoch) restores it.

    Example
    -------
    >>> path = getfixture("tmp_path") / "state"
    >>> states = RankStates(get=lambda: {"batches": 7}, set=print)
    >>> states.save(path)
    >>> states.load(path, end_of_epoch=True)
    {'batches': 7} True
    """

    def __init__(
        self, *, get: Callable[[], Any], set: Callable[[Any, bool], Any]
    ) -> None:
        self.get, self.set = get, set
        self.gathered: list[Any] | None = None
        self.ranks_before: int | None = None  # of the checkpoint that was loaded

    def gather(self) -> None:
        """Send all states to the first rank; every rank calls this before a save."""
        # Every rank gets them, because NCCL cannot gather to one.
        self.gathered = gathered(self.get())

    @mark_as_saver
    def save(self, path: str | Path) -> None:
        """Save what was gathered, or this rank's state if nothing was."""
        save_tensors(self.gathered or [self.get()], path)

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Restore this rank's state."""
        states = load_tensors(path)
        self.ranks_before = len(states)
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if dist.is_initialized() else 0
        if len(states) != ranks:
            logger.warning(
                "the checkpoint is of %d processes, this run has %d: it resumes, but "
                "not exactly as it would have gone on",
                len(states),
                ranks,
            )
        if rank < len(states):
            self.set(states[rank], end_of_epoch)


def random_states(generator: torch.Generator) -> dict[str, Any]:
    """Return the random states of Python, NumPy, torch and a generator of one's own.

    Arguments
    ---------
    generator : torch.Generator
        Draws mask noise and Gumbel noise, on the device of the training.
    """
    numpy_state: Any = np.random.get_state()
    name, key, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (name, key.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "device": generator.device.type,
        "generator": generator.get_state(),
        "cuda": torch.cuda.get_rng_state(generator.device) if _on_gpu(generator) else 0,
    }


def set_random_states(generator: torch.Generator, states: dict[str, Any]) -> None:
    """Restore what ``random_states`` has returned.

    On another kind of device the generator keeps its own state, with a warning.
    """
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, key, *rest = states["numpy"]
    np.random.set_state((name, np.array(key, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["device"] != generator.device.type:
        logger.warning(
            "the checkpoint was written on %s, the run resumes on %s: noise is drawn "
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
