"""Curves of a run, drawn from its metrics.jsonl."""

import json
import logging
from pathlib import Path

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
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
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
            points = [(r["step"], r[name]) for r in rows if r["stage"] == stage and name in r]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{name}, {stage}")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("optimiser step", fontsize=8)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
