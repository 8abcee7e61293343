"""Count how often a training step synchronizes with the device, ours and the peer's.

    python benchmarks/waits.py

No GPU is needed: operations that would synchronize with one (reading a number, a size
that depends on the data, a copy to the host) are counted on the CPU, with the line that
calls them. Copies to the device are not counted.
"""

import argparse
import tempfile
import traceback
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
from speechbrain.dataio.batch import PaddedBatch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,  # item(), float(), bool()
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
# On a CPU these call no operator, so the methods themselves are patched.
TO_HOST = ("cpu", "tolist", "numpy")
# An optimizer that is neither fused nor capturable keeps its step count on the host.
ON_HOST = "/torch/optim/"
NAMES = (
    "peer",
    "best_rq",
    "birq_0.7_forward",
    "birq_0.7_shipped",
    "birq_0.7",
    "birq_0.7_4",
    "birq_0.7_block",
)


class _Waits(TorchDispatchMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in WAITING or (function in INDEXING and _by_mask(args[1])):
            _note(self.found, function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def _by_mask(indices):
    return any(one is not None and one.dtype == torch.bool for one in indices)


def _note(found, name):
    frames = traceback.extract_stack()
    if any(ON_HOST in frame.filename for frame in frames):
        return
    outside = [f for f in frames if "/torch/" not in f.filename]
    place = next(f for f in reversed(outside) if f.filename != __file__)
    found[name, f"{Path(place.filename).name}: {place.line}"] += 1


@contextmanager
def counted():
    """Count synchronizations in a block: (operator, line) -> times.

    Before a batch is moved to the device, it is on the host: nothing waits there.
    """
    found, move = Counter(), PaddedBatch.to

    def moving(*args, **kwargs):
        found.clear()
        return move(*args, **kwargs)

    def noting(name):
        own = getattr(torch.Tensor, name)

        def call(*args, **kwargs):
            _note(found, name)
            return own(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in TO_HOST:
            stack.enter_context(mock.patch.object(torch.Tensor, name, noting(name)))
        stack.enter_context(mock.patch.object(PaddedBatch, "to", moving))
        stack.enter_context(_Waits(found))
        yield found


def of_a_step(step, audio) -> Counter:
    """Count the synchronizations of the second step; the first one fills caches.

    The average of the losses, which ``Brain.fit`` updates after every step, is included
    unless the step has copied its loss to the host.
    """
    step(step.batch(audio))
    batch = step.batch(audio)
    with counted() as found:
        loss = step(batch)
        if not any(name == "cpu" for name, _ in found):
            step.brain.update_average(loss, 0.0)
    return found


def main():
    """Count and print the synchronizations of each arm."""
    from arms import ARMS, SIZES, build, make_audio

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer_recipe", help="folder of SpeechBrain's BEST-RQ recipe")
    options = parser.parse_args()
    for name in NAMES:
        audio = make_audio(utterances=3, seconds=3.0)
        with tempfile.TemporaryDirectory() as folder:
            arm = ARMS[name]._replace(num_codes=256)
            step = build(arm, SIZES["tiny"], folder, "cpu", options.peer_recipe)
            found = of_a_step(step, audio)
        print(f"{name}: {found.total()} synchronizations in a step")
        for (operator, line), times in found.most_common():
            print(f"    {times} x {operator:20} {line}")


if __name__ == "__main__":
    main()
