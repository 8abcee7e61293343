"""Checks of a device, each by name; ``gpu.py`` runs all of them.

python benchmarks/gpu_checks.py precisions --json figures.json
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from arms import BEST_RQ, BIRQ, SHIPPED, SIZES, Size, make_audio
from ours import build
from timing import peak_memory, reset_memory, timed

from speechbrain_birq.brains import Muon

SMALL = Size(num_layers=2, d_model=16, nhead=2, d_ffn=32)
STEPS = 20
# Labels as the paper prints them, and those of the shipped files.
FORMS = {"printed": BIRQ, "shipped": SHIPPED}
PIECE = 2048  # frames
TIES = 1e-4  # share of the codes; with TF32 it would be ten times as many
LEARNT = 0.97  # of the first loss; on a CPU the tiny size falls to 0.92 in 20 steps
TOLERANCE = 0.02  # of the loss, after 20 steps in another precision


def main():
    """Run a check and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="two narrow layers")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = CHECKS[options.check](options, folder)
    options.json.write_text(json.dumps(figures) + "\n")


def precisions(options, folder) -> dict:
    """Train 20 steps in each precision; losses must be near those in float32.

    In fp16 the first steps are skipped until the scale of the loss is found, so its
    last loss is compared with that after as many steps.
    """
    kinds = {"fp32": {}, "bf16": {"precision": "bf16"}, "fp16": {"precision": "fp16"}}
    if options.device == "cpu":
        del kinds["fp16"]  # SpeechBrain's GradScaler wants a GPU
    if not options.tiny:  # compiling takes minutes on a CPU
        kinds |= {"bf16, compiled": {"precision": "bf16", "compiled": True}}
    found = {}
    for name, settings in kinds.items():
        step, audio = arm(BIRQ._replace(**settings), options, folder)
        reset_memory(options.device)
        started = time.perf_counter()
        losses = [step(step.batch(audio)) for _ in range(STEPS)]
        losses = [loss.item() for loss in losses]  # waits for the device
        found[name] = {
            "losses": losses,
            "seconds": (time.perf_counter() - started) / STEPS,
            "memory": peak_memory(options.device),
            "skipped": skipped_steps(step.brain),
        }
        made = STEPS - found[name]["skipped"]
        exact = found["fp32"]["losses"][:made]
        if not (made > STEPS / 2 and abs(losses[-1] / exact[-1] - 1) < TOLERANCE):
            raise SystemExit(f"{name}: {losses} ({made} steps made), fp32 {exact}")
        if not losses[-1] < losses[0] * LEARNT:
            raise SystemExit(f"{name}: nothing was learned, losses {losses}")
    return found


def skipped_steps(brain) -> int:
    """Return how many steps were not made, because a gradient was not finite."""
    if brain.scaler.is_enabled():
        return round(
            math.log2(torch.amp.GradScaler().get_scale() / brain.scaler.get_scale())
        )
    return brain.nonfinite_count


def labels(options, folder) -> dict:
    """Label frames of noise on the device and on the CPU: only ties may differ."""
    step, _ = arm(BIRQ, options, folder)
    quantizer = step.brain.model.anchor_quantizer
    frames = torch.randn(PIECE if options.tiny else 20 * PIECE, quantizer.input_dim)
    codes = [quantizer(part.to(options.device)).cpu() for part in frames.split(PIECE)]
    exact = [quantizer.cpu()(part) for part in frames.split(PIECE)]
    different = (torch.cat(codes) != torch.cat(exact)).double().mean().item()
    if different > TIES:
        raise SystemExit(f"{different:.2%} of the codes are not those of the CPU")
    return {"frames": len(frames), "different": different}


def waits(options, folder) -> dict:
    """Run a step between two log intervals; torch refuses what synchronizes."""
    found = {"watched": options.device != "cpu", "losses": {}}
    for name, form in FORMS.items():
        step, audio = arm(form, options, folder)
        step(step.batch(audio))
        batch = step.batch(audio)
        if found["watched"]:
            batch = batch.pin_memory()  # as the loader does
            torch.cuda.set_sync_debug_mode("error")
        loss = step(batch)
        if found["watched"]:
            torch.cuda.set_sync_debug_mode("default")
        found["losses"][name] = loss.item()
    return found


def one_rank(options, folder) -> dict:
    """Make steps under DDP with one rank; they must be those without it."""
    backend = "gloo" if options.device == "cpu" else "nccl"
    found = {"backend": backend}
    for name, form in FORMS.items():
        step, audio = arm(form, options, folder)
        found[name] = {"alone": [step(step.batch(audio)).item() for _ in range(3)]}
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    torch.distributed.init_process_group(
        backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1
    )
    for name, form in FORMS.items():
        step, audio = arm(form, options, folder, distributed_backend=backend)
        joined = [step(step.batch(audio)).item() for _ in range(3)]
        kind = type(step.brain.modules["model"]).__name__
        found[name] |= {"module": kind, "joined": joined}
    torch.distributed.destroy_process_group()
    for name in FORMS:
        alone, joined = found[name]["alone"], found[name]["joined"]
        if max(abs(a - b) for a, b in zip(alone, joined, strict=True)) > 1e-3:
            raise SystemExit(
                f"{name}: with DDP the losses are {joined}, without {alone}"
            )
    return found


def optimizers(options, folder) -> dict:
    """Time the step of AdamW and of Muon alone, on the gradients of a C2."""
    found = {}
    for name in ("AdamW", "Muon"):
        brain = arm(BEST_RQ, options, folder, size=SIZES["base"])[0].brain
        if name == "Muon":
            hidden = brain.model.encoder.layers
            brain.opt_class = partial(Muon, hidden=hidden, lr=1e-3, fused=True)
            brain.init_optimizers()
            brain.modules.train()
        for parameter in brain.model.parameters():
            parameter.grad = torch.randn_like(parameter)
        times = [timed(brain.optimizer.step, options.device) for _ in range(5)]
        found[name] = statistics.median(one["wall"] for one in times[1:])
    return found


def arm(kind, options, folder, size=SIZES["small"], **run_options):
    """Return the ``Step`` of an arm, with the same weights each time, and audio."""
    torch.manual_seed(0)
    size = SMALL if options.tiny else size
    audio = make_audio(*((2, 1.0) if options.tiny else (16, 12.5)))
    return build(kind, size, folder, options.device, **run_options), audio


CHECKS = {
    check.__name__: check for check in (precisions, labels, waits, one_rank, optimizers)
}

if __name__ == "__main__":
    main()
