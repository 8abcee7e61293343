"""Curves of a run, drawn from its metrics.jsonl."""

import logging
from pathlib import Path

from speechbrain_birq.diagnostics.metrics import read_metrics

logger = logging.getLogger(__name__)

PANELS = (
    ("loss per item", ("G", "F", "loss")),
    ("masked accuracy", ("anchor_accuracy", "enhanced_accuracy")),
    ("used codes", ("anchor_used_codes", "enhanced_used_codes")),
    ("perplexity", ("anchor_perplexity", "enhanced_perplexity")),
    ("agreement, mutual information", ("agreement", "mutual_information")),
    ("gradient norm", ("grad_norm",)),
    ("learning rate", ("lr",)),
    ("error rate, %", ("wer", "cer")),
)


def plot_training(folder) -> dict:
    """Draw ``curves.png`` of a run; return its last validation figures.

    Without matplotlib (extra ``demo``) nothing is drawn.
    """
    rows = read_metrics(folder)
    last = next((row for row in reversed(rows) if row["stage"] == "valid"), {})
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info('no curves.png: pip install "speechbrain_birq[demo]"')
        return last
    panels = [(t, n) for t, n in PANELS if any(name in r for r in rows for name in n)]
    figure = Figure(figsize=(10, 2.4 * ((len(panels) + 1) // 2)), layout="constrained")
    grid = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).flat
    for axes in grid:
        axes.set_visible(False)
    for axes, (title, names) in zip(grid, panels, strict=False):
        _draw(axes, title, names, rows)
    figure.savefig(Path(folder) / "curves.png", dpi=120)
    return last


def _draw(axes, title, names, rows):
    axes.set_visible(True)
    for colour, name in zip(("C0", "C1", "C2"), names, strict=False):
        for stage, style in (("train", "-"), ("valid", "--")):
            points = [
                (r["step"], r[name]) for r in rows if r["stage"] == stage and name in r
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    color=colour,
                    label=f"{name}, {stage}",
                )
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("optimiser step", fontsize=8)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


def plot_comparison(runs: dict, path) -> None:
    """Validation character error rate of several fine-tunings over their updates.

    Arguments
    ---------
    runs : dict
        name -> run folder
    path : str or Path
        PNG to write.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info('no %s: pip install "speechbrain_birq[demo]"', path)
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, folder in runs.items():
        rows = read_metrics(folder, "valid")
        axes.plot([r["step"] for r in rows], [r["cer"] for r in rows], label=name)
    axes.set_xlabel("fine-tuning update")
    axes.set_ylabel("character error rate on dev, %")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
