"""Sums, gathers and agreement of the ranks that train one model together."""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TypeVar

import ruamel.yaml
import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_reduce

from speechbrain_birq.errors import BadInput

T = TypeVar("T")

logger = logging.getLogger(__name__)


def gathered(value: T) -> list[T]:
    """Return every rank's value, in the order of the ranks; all ranks call it together.

    Arguments
    ---------
    value : object
        Plain values, and tensors on the CPU.

    Example
    -------
    >>> gathered("alone")
    ['alone']
    """
    if not dist.is_initialized():
        return [value]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def total(value: torch.Tensor) -> torch.Tensor:
    """Return the sum over ranks, with its gradient; all ranks call it together."""
    return all_reduce(value) if dist.is_initialized() else value


def unchanged(value: torch.Tensor) -> torch.Tensor:
    """Return the sum over this rank alone, where the others do something else."""
    return value


def shared_out(
    items: Sequence[torch.Tensor], work: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Apply a function to tensors, each rank to its share; all ranks call it together.

    Arguments
    ---------
    items : sequence
        n tensors of one shape, the same on every rank.
    work : callable
        (m, ...) -> (m, ...), each item on its own.

    Returns
    -------
    torch.Tensor
        (n, ...), bit-equal on all ranks.

    Example
    -------
    >>> shared_out([torch.ones(2), torch.zeros(2)], torch.neg)
    tensor([[-1., -1.],
            [-0., -0.]])
    """
    if not dist.is_initialized():
        return work(torch.stack([*items]))
    share = -(-len(items) // dist.get_world_size())
    start = dist.get_rank() * share
    mine = [*items[start : start + share]]
    # Every rank sends as many, so that one collective is enough.
    mine += [torch.zeros_like(items[0])] * (share - len(mine))
    done = work(torch.stack(mine)).contiguous()
    every = done.new_empty(dist.get_world_size() * share, *done.shape[1:])
    dist.all_gather_into_tensor(every, done)
    return every[: len(items)]


class LargestOfRanks:
    """Largest numbers of all ranks, in every step, without waiting for the device.

    On a GPU the answer is that of the call before: it has arrived by now, while the
    present one would have to be waited for.

    Arguments
    ---------
    device : str or torch.device
        Device of the training.

    Example
    -------
    >>> LargestOfRanks("cpu")(3, 1)
    [3, 1]
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        self.late = self.device.type == "cuda"
        self._before: tuple[torch.Tensor, torch.cuda.Event | None] | None = None

    def __call__(self, *numbers: int) -> list[int]:
        """Return the largest of each number; 0 where there was no call before.

        All ranks call it together.
        """
        if not dist.is_initialized():
            return list(numbers)
        answer = self._ask(numbers)
        if self.late:
            answer, self._before = self._before, answer
        if answer is None:
            return [0] * len(numbers)
        largest, arrived = answer
        if arrived is not None:
            arrived.synchronize()
        return largest.tolist()

    def forget(self) -> None:
        """Drop the answer that is on its way; all ranks do so together."""
        self._before = None

    def _ask(self, numbers):
        """The answer on the host, and the event of its arrival."""
        if self.device.type != "cuda":
            largest = torch.tensor(numbers, device=self.device)
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
            return largest, None
        # Only from and to pinned memory a copy does not wait.
        sent = torch.tensor(numbers).pin_memory().to(self.device, non_blocking=True)
        dist.all_reduce(sent, op=dist.ReduceOp.MAX)
        largest = torch.empty(len(numbers), dtype=sent.dtype, pin_memory=True)
        largest.copy_(sent, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return largest, arrived


def check_same_settings(resolved_yaml: str, per_machine: Set[str]) -> None:
    """Refuse ranks whose settings differ; all ranks call it together.

    With another learning rate on one machine the weights would diverge silently, with
    another ``batch_seconds`` the ranks would wait for each other.

    Arguments
    ---------
    resolved_yaml : str
        HyperPyYAML text of this rank's settings.
    per_machine : set
        Keys that may differ between machines.

    Raises
    ------
    BadInput
        On every rank, naming the first key that differs.
    """
    settings = ruamel.yaml.YAML().load(resolved_yaml)
    ranks = gathered({k: _text(settings[k]) for k in settings.keys() - per_machine})
    for rank, theirs in enumerate(ranks):
        for key in sorted(ranks[0].keys() | theirs.keys()):
            first, other = ranks[0].get(key), theirs.get(key)
            if first != other:
                raise BadInput(
                    f"rank {rank} was started with {key}: {_short(other)}, rank 0 with "
                    f"{_short(first)}: give every machine the same YAML and options"
                )


def check_same(model: torch.nn.Module) -> None:
    """Refuse ranks whose weights or codebooks differ; all ranks call it together.

    Codebooks and projections are drawn from a seed on every rank. If the YAML of one
    machine had another seed, each rank would train toward labels of its own.

    Raises
    ------
    BadInput
        On every rank, naming what differs first.
    """
    sums = gathered(
        {name: _sha256(value) for name, value in model.state_dict().items()}
    )
    for rank, theirs in enumerate(sums):
        for name, digest in sums[0].items():
            if theirs.get(name) != digest:
                raise BadInput(
                    f"{name} of rank {rank} differs from that of rank 0: give every "
                    f"machine the same YAML, options and checkpoints"
                )


def warn_of_restarts() -> None:
    """Warn if restarts by torchrun may fail.

    torchrun 2.11 gives restarted workers the addresses of those that died.

    Example
    -------
    >>> warn_of_restarts()  # not under torchrun: no warning
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))
    if restarts and os.environ.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE") != "1":
        logger.warning(
            "--max-restarts may fail: export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 "
            "before torchrun (docs/distributed.md)"
        )


def _text(node):
    """A value with its classes, which ruamel leaves out of ``str``."""
    tag = getattr(getattr(node, "tag", None), "value", None)
    if isinstance(node, Mapping):
        text = f"{{{', '.join(f'{key}: {_text(node[key])}' for key in node)}}}"
    elif isinstance(node, list):
        text = f"[{', '.join(map(_text, node))}]"
    else:
        text = str(node)
    return f"{tag} {text}" if tag else text


def _short(value):
    return "nothing" if value is None else " ".join(value.split())[:60]


def _sha256(tensor):
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(data.numpy().tobytes()).hexdigest()
