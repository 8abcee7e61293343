"""Read what a run has logged in its metrics.jsonl, and draw its curves."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbrain_birq.checkpoints.files import replacing
from speechbrain_birq.checkpoints.plain_files import read_json_lines

if TYPE_CHECKING:  # matplotlib belongs to the extra demo
    from matplotlib.figure import Figure

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


def read_metrics(folder: str | Path, stage: str | None = None) -> list[dict[str, Any]]:
    """Read the reports of a run folder, oldest first.

    Arguments
    ---------
    folder : str or Path
    stage : str, optional
        ``train`` or ``valid``; by default the reports of both.
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


def plot_training(folder: str | Path) -> dict[str, Any]:
    """Draw ``curves.png`` of a run; return its last validation figures.

    Without matplotlib (extra ``demo``) nothing is drawn.
    """
    rows = read_metrics(folder)
    validations = [row for row in rows if row["stage"] == "valid"]
    last = validations[-1] if validations else {}
    try:
        figure = draw_training(rows)
    except ImportError:
        logger.info('no curves.png: pip install "speechbrain_birq[demo]"')
        return last
    _save(figure, Path(folder) / "curves.png")
    return last


def _save(figure, path):
    """Write a picture; a full disk must not end a run whose training is done."""
    # At level DEBUG, which log.txt has, it logs every font that it considers.
    logging.getLogger("matplotlib").setLevel(logging.INFO)
    try:
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120)
    except OSError as error:
        logger.warning("no %s (%s)", path, error.strerror)


def draw_training(
    rows: Sequence[Mapping[str, Any]],
    panels: Iterable[tuple[str, Sequence[str]]] = PANELS,
) -> "Figure":
    """Draw a panel for each group of values that was reported.

    Arguments
    ---------
    rows : sequence of mapping
        Reports, as ``read_metrics`` returns them.
    panels : iterable
        (title, names of the reported values) of each panel.

    Returns
    -------
    matplotlib.figure.Figure
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
        axes.set_xlabel("optimizer step", fontsize=8)
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


def plot_comparison(runs: Mapping[str, str | Path], path: str | Path) -> None:
    """Draw the validation CER of several fine-tunings over their updates.

    Arguments
    ---------
    runs : mapping
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


def plot_layer_weights(weights: Sequence[float], path: str | Path) -> None:
    """Draw how much each layer counts in a probe's mixture.

    Arguments
    ---------
    weights : sequence
        Weights of the input projection and of each layer; they sum to 1.
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
    _save(figure, path)
