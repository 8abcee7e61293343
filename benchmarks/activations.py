"""Count the memory that a step keeps for its backward pass, and what less of it costs.

    python benchmarks/activations.py
    python benchmarks/activations.py --arms peer best_rq --rounds 5

Bytes are those of the tensors that autograd saves in the forward pass, each storage
once, without weights. Unlike a process's peak they are the same in every run. Each of
our arms is measured with ``activation_checkpointing`` off, of every second layer and of
every layer. Time is CPU time of a step over that without checkpointing, the median of
rounds in which the three take turns.
"""

import argparse
import statistics
import tempfile
import time

import torch
from arms import ARMS, SIZES, build, make_audio

NAMES = ("peer", "best_rq", "birq_0.7_forward", "birq_0.7", "birq_0.7_256")
SETTINGS = (0, 2, 1)  # activation_checkpointing: none, every second layer, every layer


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", nargs="+", default=NAMES, choices=ARMS)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--batch", type=int, default=3, help="utterances in a batch")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer_recipe", help="folder of SpeechBrain's BEST-RQ recipe")
    options = parser.parse_args()
    torch.set_num_threads(1)
    audio = make_audio(options.batch, options.seconds)
    print(f"{'arm':20}{'every':>7}{'MB':>9}{'CPU time':>10}")
    for name in options.arms:
        with tempfile.TemporaryDirectory() as folder:
            step = build(
                ARMS[name], SIZES[options.size], folder, "cpu", options.peer_recipe
            )
            for every, kept, ratio in measure(step, audio, options.rounds):
                print(f"{name:20}{every:>7}{kept / 1e6:9.0f}{ratio:10.2f}", flush=True)


def measure(step, audio, rounds):
    """Yield the setting, the bytes kept, and the CPU time over that of the first."""
    model = step.brain.modules["model"] if hasattr(step.brain, "masks") else None
    settings = SETTINGS if model is not None else SETTINGS[:1]
    kept, times = {}, {every: [] for every in settings}
    for number in range(rounds + 1):
        for every in settings:
            if model is not None:
                model.encoder.activation_checkpointing = every
            batch = step.batch(audio)
            if number == 0:  # the first round fills caches
                kept[every] = saved_bytes(step, batch)
                continue
            started = time.process_time()
            step(batch)
            times[every].append(time.process_time() - started)
    for every in settings:
        pairs = zip(times[every], times[settings[0]], strict=True)
        yield every, kept[every], statistics.median(one / none for one, none in pairs)


def saved_bytes(step, batch) -> int:
    """Return the bytes of all tensors that the forward pass of a step saves."""
    weights = {p.untyped_storage().data_ptr() for p in step.brain.modules.parameters()}
    found, ended = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if not ended and storage.data_ptr() not in weights:
            # Kept alive, so that no other storage gets its address.
            found[storage.data_ptr()] = storage
        return tensor

    def end(*_):  # layers that are run again in the backward pass save again
        ended.append(True)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backward = torch.Tensor.backward
        torch.Tensor.backward = lambda *args, **kwargs: (
            end(),
            backward(*args, **kwargs),
        )[1]
        try:
            step(batch)
        finally:
            torch.Tensor.backward = backward
    return sum(storage.nbytes() for storage in found.values())


if __name__ == "__main__":
    main()
