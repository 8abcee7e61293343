"""Read what a run has logged in its metrics.jsonl, and draw its curves."""

import logging
from pathlib import Path

from speechbrain_birq.checkpoints.plain_files import read_json_lines

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


def read_metrics(folder, stage=None) -> list[dict]:
    """Reports of a run folder, oldest first.

    Arguments
    ---------
    folder : str or Path
    stage : str, optional
        ``train`` or ``valid`` only.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = filter(_is_report, read_json_lines(path, "delete it"))
    return [row for row in rows if stage in (None, row["stage"])]


def _is_report(row):
    figures = {name: value for name, value in row.items() if name != "stage"}
    numbers = all(isinstance(value, int | float) for value in figures.values())
    return numbers and "step" in figures and isinstance(row.get("stage"), str)


def plot_training(folder) -> dict:
    """Draw ``curves.png`` of a run; return its last validation figures.

    Without matplotlib (extra ``demo``) nothing is drawn.
    """
    rows = read_metrics(folder)
    last = next((row for row in reversed(rows) if row["stage"] == "valid"), {})
    try:
        figure = draw_training(rows)
    except ImportError:
        logger.info('no curves.png: pip install "speechbrain_birq[demo]"')
        return last
    figure.savefig(Path(folder) / "curves.png", dpi=120)
    return last


def draw_training(rows, panels=PANELS):
    """A matplotlib figure with a panel for each group of figures that was reported.

    Arguments
    ---------
    rows : list
        Reports, as ``read_metrics`` gives them.
    panels : tuple
        Of (title, names of figures).
    """
    from matplotlib.figure import Figure

    panels = [(t, n) for t, n in panels if any(name in r for r in rows for name in n)]
    height = max(1, (len(panels) + 1) // 2)
    width = max(1, min(2, len(panels)))
    figure = Figure(figsize=(5 * width, 2.4 * height), layout="constrained")
    for place, (title, names) in enumerate(panels, 1):
        axes = figure.add_subplot(height, width, place)
        for colour, name in zip(("C0", "C1", "C2"), names, strict=False):
            _draw(axes, name, colour, rows)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("optimiser step", fontsize=8)
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    return figure


def _draw(axes, name, colour, rows):
    for stage, style in (("train", "-"), ("valid", "--o")):
        points = [
            (r["step"], r[name]) for r in rows if r["stage"] == stage and name in r
        ]
        if points:
            steps, values = zip(*points, strict=True)
            label = f"{name}, {stage}"
            axes.plot(steps, values, style, color=colour, markersize=3, label=label)


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


def plot_layer_weights(weights, path) -> None:
    """How much of each layer a probe listens to.

    Arguments
    ---------
    weights : list
        Of the input projection and each layer, sum 1.
    path : str or Path
        PNG to write.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info('no %s: pip install "speechbrain_birq[demo]"', path)
        return
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    names = ["input", *map(str, range(1, len(weights)))]
    axes.bar(names, weights)
    axes.axhline(1 / len(weights), color="grey", linestyle=":", label="even shares")
    axes.set_xlabel("layer")
    axes.set_ylabel("weight in the probe")
    axes.legend()
    figure.savefig(path, dpi=120)
