"""Measure time and memory of one training step of each full-size model.

    python benchmarks/full_size.py
    python benchmarks/full_size.py --only birq_wide --seconds 10
    python benchmarks/full_size.py --only birq_wide --encoder_kind conformer
    python benchmarks/full_size.py --device cuda --precision bf16 --seconds 200

Each model runs two steps on noise in its own process: labels, F and G, gradients,
clipping and the update of AdamW. The second step is timed, because Adam's moments exist
by then.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HPARAMS = Path(__file__).parents[1] / "hparams"
SIZES = ("wide", "base", "large")
KINDS = ("birq", "best_rq", "birq_paper")
NAMES = [f"{kind}_{size}" for size in SIZES for kind in KINDS]
COLUMNS = "{:17}{:>14}{:>12}{:>14}{:>10}{:>10}"
TINY = dict(num_layers=2, label_layer=1, d_model=16, nhead=2, d_ffn=32)
UTTERANCE = 10  # seconds; a longer batch holds several utterances


def main():
    """Run every model and print the table."""
    options = arguments()
    # Every process begins with the imports made, and with nothing of another model.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["speechbrain_birq.experiment", "torch._dynamo"])
    print(COLUMNS.format("model", "parameters, M", "step, s", "memory, GB", "F", "G"))
    rows = []
    for name in [options.only] if options.only else NAMES:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            row = pool.submit(measure, name, options).result()
        rows.append(row)
        print(COLUMNS.format(*(shown(value) for value in row.values())), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NAMES, help="one model; default: all")
    parser.add_argument(
        "--seconds", type=float, default=2, help="seconds of audio in the batch"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--encoder_kind", help="another encoder than the YAML's")
    parser.add_argument("--tiny", action="store_true", help="two narrow layers")
    parser.add_argument("--json", help="file for the rows")
    return parser.parse_args()


def shown(value):
    """Format a cell of the table."""
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def measure(name, options) -> dict:
    """Measure one step of a model; return a row of the table."""
    import torch

    from speechbrain_birq.config import load_configuration

    with tempfile.TemporaryDirectory() as folder:
        overrides = {
            "data_folder": folder,
            "output_folder": folder,
            "tensorboard": False,
        }
        if options.encoder_kind:
            overrides["encoder_kind"] = options.encoder_kind
        if options.tiny:
            overrides |= TINY
        hparams = load_configuration(HPARAMS / f"{name}.yaml", overrides).hparams
    model = hparams["model"].to(options.device).train()
    optimizer = hparams["opt_class"](model.parameters())
    enhanced = hparams["enhanced_weight"].value > 0
    batch = [part.to(options.device) for part in noise(hparams, options.seconds)]
    for _ in range(2):
        started = time.perf_counter()
        objective = step(model, optimizer, batch, hparams, options)
        frames = objective.num_frames.item()  # synchronizes with the device
        seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if options.device != "cpu":
        memory = torch.cuda.max_memory_allocated() / 2**30
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()) / 1e6,
        "seconds": seconds,
        "memory": memory,
        "F": objective.enhanced_loss.mean().item() / frames if enhanced else None,
        "G": objective.anchor_loss.mean().item() / frames,
    }


def noise(hparams, seconds):
    """Return waveforms (B, S), relative lengths (B,) and masks (B, T)."""
    import torch

    number = max(1, round(seconds / UTTERANCE))
    samples = round(seconds / number * hparams["sample_rate"])
    wavs = 0.1 * torch.randn(number, samples)
    frames = hparams["frontend"].num_frames(samples)
    masks = [hparams["masking"](frames, f"noise-{i}", 0) for i in range(number)]
    return wavs, torch.ones(number), torch.stack(masks)


def step(model, optimizer, batch, hparams, options):
    """Make one update on w1 F + w2 G, with the weights at the end of their ramps."""
    import torch

    from speechbrain_birq.models.objectives import penalty_sum

    weights = hparams["enhanced_weight"].value, hparams["anchor_weight"].value
    bf16 = options.precision == "bf16"
    with torch.autocast(options.device, torch.bfloat16, enabled=bf16):
        objective = model(*batch, enhanced=weights[0] > 0)
    (penalty_sum(objective, *weights) / objective.num_frames).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), hparams["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return objective


if __name__ == "__main__":
    main()
