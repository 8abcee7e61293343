"""Draw the curves of a run: a panel for each scale, names beside the lines."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from speechbrain_birq.metrics.line_labels import name_lines

if TYPE_CHECKING:  # matplotlib belongs to the extra demo
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


class Curve(NamedTuple):
    """One figure of the reports, over the steps."""

    figure: str  # its name in metrics.jsonl
    label: str
    color: str = "C0"
    guide: bool = False  # something to compare with: dashed, without markers
    log: bool = False  # draw its logarithm


class Panel(NamedTuple):
    """Curves with one scale."""

    title: str
    curves: tuple[Curve, ...]
    without: str = ""  # not drawn where the reports have this figure


ANCHOR, ENHANCED = "C0", "C3"


def both(title: str, figure: str) -> Panel:
    """Return a panel of one figure of the anchor and of the enhanced labels."""
    return Panel(
        title,
        (
            Curve(f"anchor_{figure}", "anchor", ANCHOR),
            Curve(f"enhanced_{figure}", "enhanced", ENHANCED),
        ),
    )


AGREEMENT = Panel("agreement of the labels", (Curve("agreement", "agreement"),))
INFORMATION = Panel(
    "mutual information of the labels, nats",
    (Curve("mutual_information", "information"),),
)
PANELS = (
    Panel(
        "loss of a masked frame, nats",
        (
            Curve("G", "G", ANCHOR),
            Curve("F", "F", ENHANCED),
            Curve("log_codes", "log N", "gray", guide=True),
            Curve("anchor_perplexity", "log perpl. (G)", ANCHOR, guide=True, log=True),
            Curve(
                "enhanced_perplexity", "log perpl. (F)", ENHANCED, guide=True, log=True
            ),
        ),
    ),
    Panel("minimized loss, w₁ F + w₂ G", (Curve("loss", "loss"),), without="cer"),
    Panel("CTC loss of a token, nats", (Curve("loss", "loss"),), without="G"),
    Panel("error rate, %", (Curve("cer", "CER"), Curve("wer", "WER", ENHANCED))),
    both("share of masked frames predicted right", "accuracy"),
    both("used codes", "used_codes"),
    both("perplexity of the labels", "perplexity"),
    AGREEMENT,
    INFORMATION,
    both("bits of a label that the model predicts", "bits"),
    Panel(
        "what labels tell of speaker and time, bits",
        (
            Curve("anchor_speaker_bits", "anchor, speaker", ANCHOR),
            Curve("enhanced_speaker_bits", "enhanced, speaker", ENHANCED),
            Curve("anchor_time_bits", "anchor, time", "C9"),
            Curve("enhanced_time_bits", "enhanced, time", "C1"),
        ),
    ),
    Panel("gradient norm", (Curve("grad_norm", "norm"),)),
    Panel("learning rate", (Curve("lr", "rate"),)),
)


def draw_training(rows: Rows, panels: Iterable[Panel] = PANELS) -> "Figure":
    """Draw a panel for each group of figures that was reported.

    Arguments
    ---------
    rows : sequence of mapping
        Reports, as ``read_metrics`` returns them.
    panels : iterable of Panel

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    reported = {name for row in rows for name in row}
    panels = [
        panel
        for panel in panels
        if panel.without not in reported
        and any(c.figure in reported for c in panel.curves)
    ]
    width = 3 if len(panels) > 4 else max(1, min(2, len(panels)))
    height = max(1, math.ceil(len(panels) / width))
    figure = Figure(figsize=(5 * width, 2.5 * height), layout="constrained")
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(height, width, place)
        draw_panel(axes, panel, rows)
        if place > len(panels) - width:
            axes.set_xlabel("optimizer step", fontsize=9)
    figure.draw_without_rendering()  # labels need the sizes of the panels
    for axes in figure.axes:
        name_lines(axes)
    return figure


def draw_panel(axes: "Axes", panel: Panel, rows: Rows) -> None:
    """Draw the curves of a panel: training as lines, validation as dots, too.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
    panel : Panel
    rows : sequence of mapping
        Reports.
    """
    several = {row["stage"] for row in rows if _has(row, panel)} > {"train"}
    for curve in panel.curves:
        for stage in ("train", "valid"):
            if curve.guide and stage == "valid" and several:
                continue
            _draw(axes, curve, stage, rows, several)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _has(row, panel):
    return any(curve.figure in row for curve in panel.curves)


def _draw(axes, curve, stage, rows, several):
    scale: Callable[[float], float] = math.log if curve.log else float
    points = [
        (row["step"], scale(row[curve.figure]))
        for row in rows
        if row["stage"] == stage and curve.figure in row
    ]
    if not points:
        return
    if curve.guide:
        style = dict(linestyle="--", linewidth=1, alpha=0.8)
    elif stage == "train":
        style = dict(linewidth=1.5)
    else:
        style = dict(linestyle=":", marker="o", markersize=4, linewidth=1)
    named = f"{curve.label}, valid" if stage == "valid" and several else curve.label
    axes.plot(*zip(*points, strict=True), color=curve.color, label=named, **style)
