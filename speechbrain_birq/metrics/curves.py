"""Read what a run has logged in its metrics.jsonl, and draw its curves."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_birq.checkpoints.files import replacing
from speechbrain_birq.checkpoints.plain_files import read_json_lines
from speechbrain_birq.metrics.curve_panels import draw_training
from speechbrain_birq.metrics.line_labels import name_lines

logger = logging.getLogger(__name__)


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
    try:
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120)
    except OSError as error:
        logger.warning("no %s (%s)", path, error.strerror)


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
    axes.grid(alpha=0.3)
    figure.draw_without_rendering()  # labels need the size of the axes
    name_lines(axes)
    _save(figure, path)


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
    axes.axhline(1 / len(weights), color="gray", linestyle=":", label="even shares")
    axes.set_xlabel("layer")
    axes.set_ylabel("weight in the probe")
    axes.legend()
    _save(figure, path)
